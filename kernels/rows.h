// The loop of a rows kernel: a matrix of `rows` lines of n elements, without gaps, and vectors of one value for each
// row or column. The text's stages are generated as K::run, for some of the rows (axis -1) or columns (axis 0).

#include <stdlib.h>

namespace minigrad {

enum Part { MATRIX, ROW, COLUMN, RAW };
enum { LANES = 16, CHUNK = 128, WIDTH = 256, GRAIN = 1 << 18 };

#define ALWAYS_INLINE __attribute__((always_inline))

// The order of summation is part of a kernel's meaning, so that every machine and every number of threads gives
// the same bits. Along a row 16 lanes take every 16th element each, and are added as a tree; along a column rows are
// added in chunks of 128, and the chunks in order.
template <class A> static inline A fold_sum(A* lane) {
    for (int w = LANES / 2; w; w /= 2)
        for (int l = 0; l < w; l++) lane[l] += lane[l + w];
    return lane[0];
}
// The largest of a lane, without waiting for the nans: one processor instruction, while those are noted aside.
template <class A> static inline void keep_max(A& lane, int32& nan, A x) {
    lane = x > lane ? x : lane;
    nan |= x != x;
}
template <class A> static inline void keep_min(A& lane, int32& nan, A x) {
    lane = x < lane ? x : lane;
    nan |= x != x;
}
template <class A> static inline A found(A x, const int32* nan) {
    for (int l = 0; l < LANES; l++) x = nan[l] ? A(__builtin_nanf("")) : x;
    return x + A(0);  // a zero is +0, whichever came last
}
template <class A> static inline A fold_max(A* lane, const int32* nan) {
    for (int l = 1; l < LANES; l++) lane[0] = max(lane[0], lane[l]);
    return found(lane[0], nan);
}
template <class A> static inline A fold_min(A* lane, const int32* nan) {
    for (int l = 1; l < LANES; l++) lane[0] = min(lane[0], lane[l]);
    return found(lane[0], nan);
}

template <class Body> static inline ALWAYS_INLINE void along(int64 n, const Body& body) {
    int64 j = 0;
    for (; j + LANES <= n; j += LANES) {
#pragma omp simd
        for (int l = 0; l < LANES; l++) body(j + l, l);
    }
    for (int l = 0; j + l < n; l++) body(j + l, l);
}

template <class K> static int find_shape(const Array* a, int64* rows, int64* n) {
    int first = 0;
    while (K::parts[first] != MATRIX) first++;
    const Array& full = a[first];
    if (full.nd < 1) return BAD_SHAPE;
    *n = full.dims[full.nd - 1];
    *rows = 1;
    for (int d = 0; d + 1 < full.nd; d++) *rows *= full.dims[d];
    for (int k = 0; k < K::arrays; k++) {
        if (!(a[k].flags & ALIGNED) || !(a[k].flags & CONTIGUOUS)) return BAD_FLAGS;
        if (K::outputs[k] && !(a[k].flags & WRITEABLE)) return BAD_FLAGS;
        const int64 nd = K::parts[k] == MATRIX ? full.nd : K::parts[k] == ROW ? full.nd - 1 : 1;
        if (K::parts[k] == RAW) continue;
        if (a[k].nd != nd) return BAD_SHAPE;
        for (int d = 0; d < nd; d++)
            if (a[k].dims[d] != full.dims[K::parts[k] == COLUMN ? full.nd - 1 : d]) return BAD_SHAPE;
    }
    return K::picks && (K::axis ? *n : *rows) == 0 && (K::axis ? *rows : *n) > 0 ? BAD_SHAPE : DONE;
}

template <class K> static bool overlaps(const Array* a) {
    int64 bytes[K::arrays];
    for (int k = 0; k < K::arrays; k++) {
        bytes[k] = K::sizes[k];
        for (int d = 0; d < a[k].nd; d++) bytes[k] *= a[k].dims[d];
    }
    for (int k = 0; k < K::arrays; k++) {
        for (int m = 0; K::outputs[k] && m < K::arrays; m++) {
            if (m == k || a[k].data + bytes[k] <= a[m].data || a[m].data + bytes[m] <= a[k].data) continue;
            if (K::outputs[m] || a[m].data != a[k].data || bytes[m] != bytes[k] || K::parts[m] != K::parts[k])
                return true;
        }
    }
    return false;
}

template <class K> static int launch(const Array* a, const typename K::T* hp, int threads, int checked) {
    int64 rows, n;
    if (int why = find_shape<K>(a, &rows, &n)) return why;
    if (!checked && overlaps<K>(a)) return OVERLAP;
    char* p[K::arrays];
    for (int k = 0; k < K::arrays; k++) p[k] = a[k].data;
    int64 parts = rows * n / GRAIN < threads ? rows * n / GRAIN : threads;
    const int64 step = K::axis ? 1 : LANES, lines = ((K::axis ? rows : n) + step - 1) / step;
    parts = parts < 1 ? 1 : parts > lines ? (lines ? lines : 1) : parts;
    const auto work = [&](int part) {
        const int64 last = K::axis ? rows : n;
        const int64 from = lines * part / parts * step, to = lines * (part + 1) / parts * step;
        K::run(p, hp, from, to < last ? to : last, n, rows);
    };
#ifdef _OPENMP
    if (parts > 1) {
#pragma omp parallel for num_threads((int)parts) schedule(static, 1)
        for (int part = 0; part < (int)parts; part++) work(part);
        return DONE;
    }
#endif
    for (int part = 0; part < (int)parts; part++) work(part);
    return DONE;
}

}  // namespace minigrad
