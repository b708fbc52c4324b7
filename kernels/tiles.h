// Two products of matrices, in registers: what convolution.h spends its time in. `S` is float or double.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <new>
#include <vector>

#ifdef __clang__
#pragma clang fp contract(fast)
#else
#pragma GCC optimize("fp-contract=fast")  // for sums of products, in whose rounding BLAS is as free
#endif

namespace {

typedef long long int64;

#if defined(__AVX512F__)
enum { BYTES = 64, ROWS = 8, BLOCKS = 4 };  // 24 of 32 registers hold sums
#elif defined(__AVX__)
enum { BYTES = 32, ROWS = 4, BLOCKS = 2 };  // 12 of 16
#else
enum { BYTES = 16, ROWS = 4, BLOCKS = 2 };
#endif
enum { LANES = BYTES / sizeof(S), TAPS = 6 };
enum { DEPTH = 256, PIXELS = 128 };  // how many rows of columns, or pixels, at once: they stay in the nearest cache
enum { SLACK = LANES };              // vectors reach so far behind the last pixel, where nothing is used
template <int B> struct Bytes { typedef S Vector __attribute__((vector_size(B))); };
typedef Bytes<BYTES>::Vector Vector;

#define INLINE static inline __attribute__((always_inline))
template <class V = Vector> INLINE V load(const S* p) {
    V v;
    memcpy(&v, p, sizeof(V));  // of no alignment
    return v;
}
template <class V> INLINE void store(S* p, V v) { memcpy(p, &v, sizeof(V)); }
INLINE int64 round_up(int64 n, int64 to) { return (n + to - 1) / to * to; }
INLINE int64 ceil_div(int64 a, int64 b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); }

// z[m][p] (+)= sum over k of a[m][k] b[start[k] + p], for M rows and N vectors of pixels
template <int M, int N> INLINE void product(const S* a, int64 lda, const S* b, const int64* start, int64 depth, S* z,
                                            int64 ldz, bool more) {
    Vector sum[M][N];
    for (int m = 0; m < M; m++)
        for (int v = 0; v < N; v++) sum[m][v] = more ? load(z + m * ldz + v * LANES) : Vector{};
    for (int64 k = 0; k < depth; k++) {
        Vector x[N];
        for (int v = 0; v < N; v++) x[v] = load(b + start[k] + v * LANES);
        for (int m = 0; m < M; m++)
            for (int v = 0; v < N; v++) sum[m][v] += a[m * lda + k] * x[v];
    }
    for (int m = 0; m < M; m++)
        for (int v = 0; v < N; v++) store(z + m * ldz + v * LANES, sum[m][v]);
}

template <int N> static void strip(const S* a, int64 lda, int64 rows, const S* b, const int64* start, int64 depth, S* z,
                                   int64 ldz, bool more) {
    int64 m = 0;
    for (; m + ROWS <= rows; m += ROWS) product<ROWS, N>(a + m * lda, lda, b, start, depth, z + m * ldz, ldz, more);
    for (; m + 2 <= rows; m += 2) product<2, N>(a + m * lda, lda, b, start, depth, z + m * ldz, ldz, more);
    for (; m < rows; m++) product<1, N>(a + m * lda, lda, b, start, depth, z + m * ldz, ldz, more);
}

// The whole of it, in pieces of depth and of pixels that stay in the nearest cache.
static void multiply(const S* a, int64 depth, int64 rows, const S* b, const int64* start, S* z, int64 ldz,
                     int64 length) {
    for (int64 k = 0; k < depth; k += DEPTH) {
        const int64 part = depth - k < DEPTH ? depth - k : DEPTH;
        for (int64 p = 0, left = ceil_div(length, LANES); left > 0;) {
            const int64 n = left == 4 || left == 2 ? 2 : left == 1 ? 1 : 3;  // vectors of pixels; 4 are 2 and 2
            if (n == 3) strip<3>(a + k, depth, rows, b + p, start + k, part, z + p, ldz, k > 0);
            else if (n == 2) strip<2>(a + k, depth, rows, b + p, start + k, part, z + p, ldz, k > 0);
            else strip<1>(a + k, depth, rows, b + p, start + k, part, z + p, ldz, k > 0);
            p += n * LANES, left -= n;
        }
    }
}

// gw[k][o] += sum over p of gt[p][o] b[start[k] + p], for N taps and M vectors of output channels
template <int M, int N> INLINE void correlate(const S* gt, int64 ldg, const S* b, const int64* start, int64 length,
                                              S* gw) {
    Vector sum[N][M];
    for (int k = 0; k < N; k++)
        for (int m = 0; m < M; m++) sum[k][m] = Vector{};
    for (int64 p = 0; p < length; p++) {
        Vector g[M];
        for (int m = 0; m < M; m++) g[m] = load(gt + p * ldg + m * LANES);
        for (int k = 0; k < N; k++)
            for (int m = 0; m < M; m++) sum[k][m] += b[start[k] + p] * g[m];
    }
    for (int k = 0; k < N; k++)
        for (int m = 0; m < M; m++) store(gw + k * ldg + m * LANES, load(gw + k * ldg + m * LANES) + sum[k][m]);
}

template <int M> static void correlate_taps(const S* gt, int64 ldg, const S* b, const int64* start, int64 depth,
                                            int64 length, S* gw) {
    int64 k = 0;
    for (; k + TAPS <= depth; k += TAPS) correlate<M, TAPS>(gt, ldg, b, start + k, length, gw + k * ldg);
    for (; k + 3 <= depth; k += 3) correlate<M, 3>(gt, ldg, b, start + k, length, gw + k * ldg);
    for (; k < depth; k++) correlate<M, 1>(gt, ldg, b, start + k, length, gw + k * ldg);
}

// The whole of it: channels in blocks of registers, pixels in pieces of the nearest cache.
static void correlate_all(const S* gt, int64 wide, const S* b, const int64* start, int64 depth, int64 length, S* gw) {
    for (int64 o = 0; o < wide;) {
        const int64 left = (wide - o) / LANES, m = left >= BLOCKS ? BLOCKS : left >= 2 ? 2 : 1;
        for (int64 p = 0; p < length; p += PIXELS) {
            const int64 n = length - p < PIXELS ? length - p : PIXELS;
            const S* t = gt + p * wide + o;
            if (m == BLOCKS) correlate_taps<BLOCKS>(t, wide, b + p, start, depth, n, gw + o);
            else if (m == 2) correlate_taps<2>(t, wide, b + p, start, depth, n, gw + o);
            else correlate_taps<1>(t, wide, b + p, start, depth, n, gw + o);
        }
        o += m * LANES;
    }
}

// The same where there are too few channels to fill a vector: gw[k][o] += the product of two rows of pixels.
static void correlate_few(const S* g, int64 ld, int64 channels, int64 wide, const S* b, const int64* start,
                          int64 depth, int64 length, S* gw) {
    for (int64 o = 0; o < channels; o++)
        for (int64 k = 0; k < depth; k++) {
            const S *u = g + o * ld, *v = b + start[k];
            Vector sum[2] = {};
            S rest = 0;
            int64 p = 0;
            for (; p + 2 * LANES <= length; p += 2 * LANES)
                for (int e = 0; e < 2; e++) sum[e] += load(u + p + e * LANES) * load(v + p + e * LANES);
            for (; p < length; p++) rest += u[p] * v[p];
            for (int l = 0; l < LANES; l++) rest += sum[0][l] + sum[1][l];
            gw[k * wide + o] += rest;
        }
}

}  // namespace
