// Pools over the windows of an image, one plane after the other: the twins of kernels/windows.py, equal to the bit.

#include <stdint.h>
#include <string.h>

#include <vector>

namespace {

typedef long long int64;
template <int N> struct Whole { typedef int32_t type; };
template <> struct Whole<8> { typedef int64 type; };
typedef Whole<sizeof(S)>::type Index;  // as wide as S, so that both fill vectors of one length

struct Windows {  // the fields of windows.Windows
    int64 h, w, kh, kw, sh, sw, top, left, dh, dw, oh, ow;

    // The outputs q whose tap lies inside: at + q step in 0 ... size - 1.
    static void range(int64 at, int64 step, int64 size, int64 out, int64* low, int64* high) {
        *low = at < 0 ? (-at + step - 1) / step : 0, *high = at < size ? (size - 1 - at) / step + 1 : 0;
        *low = *low < out ? *low : out, *high = *high < out ? *high : out, *high = *high > *low ? *high : *low;
    }
    struct Tap {
        int64 row, column, top, bottom, low, high;  // the pixel of output (0, 0); the outputs that see the image
    };
    std::vector<Tap> taps() const {
        std::vector<Tap> found;
        for (int64 i = 0; i < kh; i++)
            for (int64 j = 0; j < kw; j++) {
                Tap t = {i * dh - top, j * dw - left, 0, 0, 0, 0};
                range(t.row, sh, h, oh, &t.top, &t.bottom), range(t.column, sw, w, ow, &t.low, &t.high);
                found.push_back(t);
            }
        return found;
    }
};

template <class Work> void planes(const Windows& s, int64 count, int64 threads, const Work& work) {
#ifdef _OPENMP
    if (threads > 1 && count * s.oh * s.ow * s.kh * s.kw > 262144) {
#pragma omp parallel for num_threads((int)threads) schedule(static)
        for (int64 n = 0; n < count; n++) work(n);
        return;
    }
#endif
    for (int64 n = 0; n < count; n++) work(n);
}

// f(q, k): output q of a row and its pixel k, for a step that the compiler knows where it is 1 or 2
template <class F> inline void along(int64 low, int64 high, int64 at, int64 step, const F& f) {
    if (step == 1)
        for (int64 q = low; q < high; q++) f(q, at + q);
    else if (step == 2)
        for (int64 q = low; q < high; q++) f(q, at + 2 * q);
    else
        for (int64 q = low; q < high; q++) f(q, at + q * step);
}

inline void better_of(const S* seen, S* best, Index* which, Index k, int64 length) {
    for (int64 p = 0; p < length; p += 16)
        for (int64 q = p; q < p + 16; q++) {
            const S v = seen[q], old = best[q];
            const bool better = (v > old) | (v != v);
            best[q] = better ? v : old;
            which[q] = better ? k : which[q];
        }
}

template <class U> void largest_of(const S* x, S* y, U* taps, const int32_t* rows, const int32_t* columns,
                                   const Windows& s, int64 count, int64 threads) {
    const std::vector<Windows::Tap> every = s.taps();
    planes(s, count, threads, [&](int64 n) {
        enum { PIECE = 64 };  // outputs at once: what is done for them is vector code of a fixed length
        S seen[PIECE], best[PIECE];
        Index which[PIECE];
        for (int64 r = 0; r < s.oh; r++)
            for (int64 first = 0; first < s.ow; first += PIECE) {
                const int64 last = s.ow - first < PIECE ? s.ow : first + PIECE, out = (n * s.oh + r) * s.ow;
                const int64 length = (last - first + 15) / 16 * 16;
                for (int64 q = 0; q < length; q++) best[q] = seen[q] = -__builtin_inf();
                for (int64 q = first; q < last; q++) which[q - first] = rows[r] * s.kw + columns[q];
                for (int64 k = 0; k < (int64)every.size(); k++) {
                    const Windows::Tap t = every[k];
                    if (r < t.top || r >= t.bottom) continue;
                    const S* const row = x + (n * s.h + r * s.sh + t.row) * s.w;
                    const int64 low = t.low < first ? first : t.low, high = t.high > last ? last : t.high;
                    for (int64 q = first; q < low && q < last; q++) seen[q - first] = -__builtin_inf();
                    along(low, high, t.column, s.sw, [&](int64 q, int64 at) { seen[q - first] = row[at]; });
                    for (int64 q = high < first ? first : high; q < last; q++) seen[q - first] = -__builtin_inf();
                    better_of(seen, best, which, (Index)k, length);
                }
                for (int64 q = first; q < last; q++) y[out + q] = best[q - first], taps[out + q] = which[q - first];
            }
    });
}

template <class U> void put_at(const S* g, const U* taps, S* y, const Windows& s, int64 count, int64 threads) {
    std::vector<int64> place;
    for (const Windows::Tap& t : s.taps()) place.push_back(t.row * s.w + t.column);
    planes(s, count, threads, [&](int64 n) {
        S* const plane = y + n * s.h * s.w;
        memset(plane, 0, s.h * s.w * sizeof(S));
        for (int64 r = 0, k = n * s.oh * s.ow; r < s.oh; r++)
            for (int64 q = 0; q < s.ow; q++, k++) plane[r * s.sh * s.w + q * s.sw + place[taps[k]]] += g[k];
    });
}

}  // namespace

extern "C" void largest(const S* x, S* y, void* taps, const int32_t* rows, const int32_t* columns, int64 itemsize,
                        const Windows* s, int64 count, int64 threads) {
    if (itemsize == 1) largest_of(x, y, (uint8_t*)taps, rows, columns, *s, count, threads);
    else largest_of(x, y, (int32_t*)taps, rows, columns, *s, count, threads);
}

extern "C" void put(const S* g, const void* taps, S* y, int64 itemsize, const Windows* s, int64 count, int64 threads) {
    if (itemsize == 1) put_at(g, (const uint8_t*)taps, y, *s, count, threads);
    else put_at(g, (const int32_t*)taps, y, *s, count, threads);
}

extern "C" void total(const S* x, S* y, const Windows* w, int64 count, int64 threads) {
    const Windows s = *w;
    const std::vector<Windows::Tap> every = s.taps();
    planes(s, count, threads, [&](int64 n) {
        for (int64 r = 0; r < s.oh; r++) {
            S* const sum = y + (n * s.oh + r) * s.ow;
            memset(sum, 0, s.ow * sizeof(S));
            for (const Windows::Tap& t : every) {
                if (r < t.top || r >= t.bottom) continue;
                const S* const row = x + (n * s.h + r * s.sh + t.row) * s.w;
                along(t.low, t.high, t.column, s.sw, [=](int64 q, int64 at) { sum[q] += row[at]; });
            }
        }
    });
}

extern "C" void spread(const S* g, S* y, const Windows* w, int64 count, int64 threads) {
    const Windows s = *w;
    const std::vector<Windows::Tap> every = s.taps();
    planes(s, count, threads, [&](int64 n) {
        memset(y + n * s.h * s.w, 0, s.h * s.w * sizeof(S));
        for (const Windows::Tap& t : every)
            for (int64 r = t.top; r < t.bottom; r++) {
                S* const row = y + (n * s.h + r * s.sh + t.row) * s.w;
                const S* const from = g + (n * s.oh + r) * s.ow;
                along(t.low, t.high, t.column, s.sw, [=](int64 q, int64 at) { row[at] += from[q]; });
            }
    });
}
