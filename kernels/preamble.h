// What every compiled kernel stands on: the number types, the functions a text may call, and the loop that
// walks arrays of any shape. The text itself is pasted after this file as `element`, see compiled.py.
//
// The text sits in namespace `minigrad`, so the names below hide the C library's: exp(float) is the
// polynomial here, not libm's.

#include <stdint.h>
#include <string.h>

namespace minigrad {

typedef int8_t int8;
typedef uint8_t uint8;
typedef int32_t int32;
typedef uint32_t uint32;
typedef long long int64;
typedef unsigned long long uint64;
typedef float float32;
typedef double float64;

static inline uint32 bits(float x) { uint32 b; memcpy(&b, &x, 4); return b; }
static inline float from_bits(uint32 b) { float x; memcpy(&x, &b, 4); return x; }

// ---- 16-bit storage: classes that become float when computed with, and round to even when stored -----------

struct bhalf {
    uint16_t b;
    bhalf() = default;
    bhalf(float x) {
        uint32 u = bits(x), rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
        b = (u & 0x7fffffff) > 0x7f800000 ? (u >> 16) | 0x40 : rounded;  // a nan stays one
    }
    operator float() const { return from_bits((uint32)b << 16); }
};

struct half {
#if defined(__FLT16_MANT_DIG__) && defined(__F16C__)
    _Float16 h;
    half() = default;
    half(float x) : h((_Float16)x) {}
    operator float() const { return (float)h; }
#else
    uint16_t b;
    half() = default;
    half(float x) {
        uint32 u = bits(x), sign = (u >> 16) & 0x8000, a = u & 0x7fffffff;
        // Adding 0.5 puts the last bit of a subnormal half at the last bit of a float: the hardware rounds it.
        uint32 small = bits(from_bits(a) + 0.5f) - bits(0.5f);
        uint32 normal = (a - 0x38000000 + 0xfff + ((a >> 13) & 1)) >> 13;
        uint32 large = a > 0x7f800000 ? 0x7e00 : 0x7c00;
        b = sign | (a < 0x38800000 ? small : a < 0x477ff000 ? normal : large);
    }
    operator float() const {
        uint32 a = b & 0x7fff, sign = (uint32)(b & 0x8000) << 16;
        float normal = from_bits((a << 13) + 0x38000000), small = (float)(int32)a * 5.9604644775390625e-8f;
        uint32 special = (a << 13) | 0x7f800000;
        return from_bits(sign | (a < 0x400 ? bits(small) : a < 0x7c00 ? bits(normal) : special));
    }
#endif
};

// ---- functions -----------------------------------------------------------------------------------------------

// Selections with one answer in every case, see functions.py.
#define SELECTION(name, choice)                                                                                    \
    template <class A, class B> static inline auto name(A a_, B b_) -> decltype(a_ + b_) {                         \
        typedef decltype(a_ + b_) C;                                                                               \
        const C a = a_, b = b_;                                                                                    \
        return choice;                                                                                             \
    }
SELECTION(max, a > b || a != a ? a : b)
SELECTION(min, a < b || a != a ? a : b)
SELECTION(fmax, a > b || b != b ? a : b)
SELECTION(fmin, a < b || b != b ? a : b)
#undef SELECTION

#define LIBRARY(name, builtin)                                                                                     \
    static inline float name(float x) { return __builtin_##builtin##f(x); }                                        \
    static inline double name(double x) { return __builtin_##builtin(x); }
LIBRARY(sqrt, sqrt) LIBRARY(floor, floor) LIBRARY(ceil, ceil) LIBRARY(round, rint)
LIBRARY(fabs, fabs) LIBRARY(abs, fabs)
LIBRARY(sin, sin) LIBRARY(cos, cos) LIBRARY(tan, tan) LIBRARY(asin, asin) LIBRARY(acos, acos)
LIBRARY(atan, atan) LIBRARY(sinh, sinh) LIBRARY(cosh, cosh) LIBRARY(log1p, log1p)
LIBRARY(expm1, expm1) LIBRARY(log2, log2) LIBRARY(exp2, exp2) LIBRARY(erfc, erfc)
#undef LIBRARY
static inline int32 abs(int32 x) { return x < 0 ? -x : x; }
static inline int64 abs(int64 x) { return x < 0 ? -x : x; }
static inline uint32 abs(uint32 x) { return x; }
static inline uint64 abs(uint64 x) { return x; }
static inline float pow(float x, float y) { return __builtin_powf(x, y); }
static inline double pow(double x, double y) { return __builtin_pow(x, y); }
static inline bool isnan(float x) { return x != x; }
static inline bool isnan(double x) { return x != x; }
static inline bool isinf(float x) { return fabs(x) == __builtin_inff(); }
static inline bool isinf(double x) { return fabs(x) == __builtin_inf(); }
static inline bool isfinite(float x) { return fabs(x) < __builtin_inff(); }
static inline bool isfinite(double x) { return fabs(x) < __builtin_inf(); }

static inline double exp(double x) { return __builtin_exp(x); }
static inline double log(double x) { return __builtin_log(x); }
static inline double tanh(double x) { return __builtin_tanh(x); }
static inline double erf(double x) { return __builtin_erf(x); }

// e^x = 2^k e^r with |r| <= ln(2)/2. Without branches, so that the loop round it becomes vector code; at most
// 2 ulp, like log, tanh and erf below (tests/test_kernel_math.py).
static inline float exp(float x) {
    x = x > 104.0f ? 104.0f : x;
    x = x < -104.0f ? -104.0f : x;
    const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits
    const float shifted = x * 1.44269504f + shift;
    const int32 k = (int32)(bits(shifted) - bits(shift));
    const float kf = shifted - shift;
    const float r = (x - kf * 0.693359375f) - kf * -2.12194440e-4f;
    float p = 0.00019907925161533058f;
    p = p * r + 0.001393388374708593f;
    p = p * r + 0.008333285339176655f;
    p = p * r + 0.041666463017463684f;
    p = p * r + 0.1666666716337204f;
    p = p * r + 0.5f;
    const float y = 1.0f + (r + r * r * p);
    const int32 half_k = k >> 1;  // 2^k in two factors: neither overflows, and subnormals come out right
    return y * from_bits((uint32)(half_k + 127) << 23) * from_bits((uint32)(k - half_k + 127) << 23);
}

// log(x) = e ln(2) + log(1 + f), with 1 + f in [sqrt(1/2), sqrt(2)).
static inline float log(float x) {
    const bool tiny = x < 1.17549435e-38f;
    const uint32 b = bits(tiny ? x * 8388608.0f : x);
    const int32 k = (int32)(b - 0x3f3504f3) >> 23;
    const float e = (float)k - (tiny ? 23.0f : 0.0f);
    const float f = from_bits(b - ((uint32)k << 23)) - 1.0f;
    float p = 0.07334195822477341f;
    p = p * f + -0.11661753803491592f;
    p = p * f + 0.1163487359881401f;
    p = p * f + -0.12396466732025146f;
    p = p * f + 0.14251114428043365f;
    p = p * f + -0.1666916012763977f;
    p = p * f + 0.2000068873167038f;
    p = p * f + -0.24999980628490448f;
    p = p * f + 0.3333333134651184f;
    const float z = f * f;
    const float tail = (f * z * p + e * -2.12194440e-4f) - 0.5f * z;
    const float y = (f + tail) + e * 0.693359375f;
    const float special = x == 0.0f ? -__builtin_inff() : x < 0.0f ? __builtin_nanf("") : x;
    return x > 0.0f && x < __builtin_inff() ? y : special;
}

// tanh(x) = x + x^3 P(x^2) near zero, else 1 - 2 / (e^2x + 1).
static inline float tanh(float x) {
    const float a = fabs(x), z = x * x;
    float p = 0.0022759109269827604f;
    p = p * z + -0.008329608477652073f;
    p = p * z + 0.021764755249023438f;
    p = p * z + -0.05395878478884697f;
    p = p * z + 0.1333330124616623f;
    p = p * z + -0.3333333432674408f;
    const float far = 1.0f - 2.0f / (exp(2.0f * a) + 1.0f);
    return __builtin_copysignf(a < 0.6f ? a + a * z * p : far, x);
}

// erf(x) = x + x P(x^2) near zero, else 1 - e^Q(x) with Q = log(1 - erf).
static inline float erf(float x) {
    const float z = x * x;
    float p = 7.889119297033176e-05f;
    p = p * z + -0.0008020841050893068f;
    p = p * z + 0.005189535208046436f;
    p = p * z + -0.026854444295167923f;
    p = p * z + 0.11283600330352783f;
    p = p * z + -0.3761262595653534f;
    p = p * z + 0.12837916612625122f;
    const float a = fabs(x), c = a > 4.0f ? 4.0f : a;
    float q = 2.1208619216395164e-07f;
    q = q * c + -2.4754242986091413e-05f;
    q = q * c + 0.0004603578709065914f;
    q = q * c + -0.004270636476576328f;
    q = q * c + 0.025348925963044167f;
    q = q * c + -0.10860659927129745f;
    q = q * c + -0.6330657601356506f;
    q = q * c + -1.1296494007110596f;
    q = q * c + 0.00020206546469125897f;
    const float far = __builtin_copysignf(1.0f - exp(q), x);
    return a < 1.0f ? x * p + x : far;
}

// ---- arrays ----------------------------------------------------------------------------------------------------

enum { DONE = 0, NOT_AN_ARRAY, BAD_SHAPE, BAD_FLAGS, OVERLAP };

struct Array {
    char* data;
    int64 nd;
    const int64 *dims, *strides;
    int64 flags;
};

// The head of a NumPy array and of a tuple, as CPython lays them out. Reading them here instead of asking
// through ctypes is what makes a call cost one microsecond; compiled.py checks the layout when it loads.
struct PyArray {
    int64 references;
    const void* type;
    char* data;
    int32 nd;
    const int64 *dims, *strides;
    const void *base, *descr;
    int32 flags;
};
struct PyTuple {
    int64 references;
    const void* type;
    int64 size;
    const PyArray* items[1];
};
static const void* ndarray_type;

static bool read(const PyArray* a, Array* out) {
    if (a->type != ndarray_type) return false;
    *out = Array{a->data, a->nd, a->dims, a->strides, a->flags};
    return true;
}

static const int64 CONTIGUOUS = 1, ALIGNED = 0x100, WRITEABLE = 0x400;

// Reads the arrays of a call out of Python's tuple (`where` says which items), and its scalars: packed doubles,
// rounded here to T once, or an array of T after the arrays.
template <class K> static int read_call(const PyTuple* args, const double* doubles, const PyArray* given, Array* a,
                                        typename K::T* room, const typename K::T** hp) {
    for (int k = 0; k < K::arrays; k++) {
        if (K::where[k] >= args->size || !read(args->items[K::where[k]], &a[k])) return NOT_AN_ARRAY;
    }
    *hp = room;
    if (doubles) {
        for (int k = 0; k < K::scalars; k++) room[k] = (typename K::T)doubles[k];
    } else if (K::scalars) {
        Array array;
        if (!read(given, &array) || array.nd != 1 || array.dims[0] != K::scalars) return NOT_AN_ARRAY;
        if (!(array.flags & CONTIGUOUS) || !(array.flags & ALIGNED)) return BAD_FLAGS;
        *hp = (const typename K::T*)array.data;
    }
    return DONE;
}

// The same arrays written down as numbers, for a Python whose objects are laid out differently:
// data, flags, nd, dims, strides of each.
template <class K> static void read_numbers(const int64* numbers, Array* a) {
    for (int k = 0; k < K::arrays; k++) {
        const int64 nd = numbers[2];
        a[k] = Array{(char*)(intptr_t)numbers[0], nd, numbers + 3, numbers + 3 + nd, numbers[1]};
        numbers += 3 + 2 * nd;
    }
}

}  // namespace minigrad
