// The loop of an elementwise kernel: arrays of any shape and stride, broadcast as NumPy broadcasts them.
//
// All work is done by `K::flat`, a plain loop over contiguous elements that the compiler turns into vector
// code. Arrays of one shape without gaps go straight to it. For all others, dimensions that can be walked as
// one are merged, and the innermost is walked in pieces: an operand that is not contiguous there (a broadcast
// column, a transposed matrix) is gathered into a small buffer first, so that the loop never sees it.

namespace minigrad {

enum Kind { INPUT, OUTPUT, LOADED, RAW };  // LOADED: an output whose old value the text reads
enum { DIMENSIONS = 64, PIECE = 1024, GRAIN = 1 << 18 };  // GRAIN: elements that are worth a thread

static inline bool is_output(Kind k) { return k == OUTPUT || k == LOADED; }

static int threads_for(int64 n, int threads) {
    const int64 useful = n / GRAIN;
    return useful < 2 ? 1 : useful < threads ? (int)useful : threads;
}

// Runs work(part, parts) for each part, on as many threads.
template <class Work> static void in_parallel(int parts, const Work& work) {
#ifdef _OPENMP
    if (parts > 1) {
#pragma omp parallel for num_threads(parts) schedule(static, 1)
        for (int part = 0; part < parts; part++) work(part, parts);
        return;
    }
#endif
    for (int part = 0; part < parts; part++) work(part, parts);
}

template <class A> static inline void copy(A* to, int64 step, const A* from, int64 gap, int64 n) {
    if (gap == 0 && step == sizeof(A)) {  // one value for the whole row
        const A value = *from;
        for (int64 j = 0; j < n; j++) to[j] = value;
        return;
    }
    for (int64 j = 0; j < n; j++) *(A*)((char*)to + j * step) = *(const A*)((const char*)from + j * gap);
}

// Copies n elements of a size between places with any gaps: gathers an operand, or scatters a result.
static void move(char* to, int64 step, const char* from, int64 gap, int64 size, int64 n) {
    switch (size) {
        case 1: return copy((uint8*)to, step, (const uint8*)from, gap, n);
        case 2: return copy((uint16_t*)to, step, (const uint16_t*)from, gap, n);
        case 4: return copy((uint32*)to, step, (const uint32*)from, gap, n);
        default: return copy((uint64*)to, step, (const uint64*)from, gap, n);
    }
}

template <class K> struct Loop {
    enum { N = K::arrays };
    const typename K::T* hp;
    int64 n;
    int nd;
    int64 dims[DIMENSIONS];
    int64 strides[N][DIMENSIONS];
    char* data[N];

    // Finds shape and strides; merges dimensions. Returns why it cannot, or DONE.
    int plan(const Array* a) {
        int first = 0;
        while (!is_output(K::kinds[first])) first++;
        const Array& full = a[first];
        nd = 0;
        n = 1;
        if (full.nd > DIMENSIONS) return BAD_SHAPE;
        for (int k = 0; k < N; k++) {
            if (!(a[k].flags & ALIGNED)) return BAD_FLAGS;
            if (is_output(K::kinds[k]) && !(a[k].flags & WRITEABLE)) return BAD_FLAGS;
            if (K::kinds[k] == RAW && !(a[k].flags & CONTIGUOUS)) return BAD_FLAGS;
            if (K::kinds[k] != RAW && a[k].nd > full.nd) return BAD_SHAPE;
            if (is_output(K::kinds[k]) && a[k].nd != full.nd) return BAD_SHAPE;
            data[k] = a[k].data;
        }
        for (int d = 0; d < full.nd; d++) {
            const int64 size = full.dims[d];
            int64 step[N];
            bool merges = nd > 0;
            for (int k = 0; k < N; k++) {
                step[k] = 0;
                const int own = d - (int)(full.nd - a[k].nd);
                if (K::kinds[k] == RAW || own < 0) continue;
                if (a[k].dims[own] == size) step[k] = a[k].strides[own];
                else if (a[k].dims[own] != 1 || is_output(K::kinds[k])) return BAD_SHAPE;
            }
            n *= size;
            if (size == 1) continue;
            for (int k = 0; k < N && merges; k++)
                merges = K::kinds[k] == RAW || strides[k][nd - 1] == step[k] * size;
            if (!merges) dims[nd++] = 1;
            dims[nd - 1] *= size;
            for (int k = 0; k < N; k++) strides[k][nd - 1] = step[k];
        }
        if (nd == 0) {  // a single element
            dims[nd++] = 1;
            for (int k = 0; k < N; k++) strides[k][0] = K::sizes[k];
        }
        return DONE;
    }

    void extent(int k, const Array* a, const char** low, const char** high) const {
        *low = data[k];
        *high = data[k] + K::sizes[k];
        if (K::kinds[k] == RAW) {
            int64 size = K::sizes[k];
            for (int d = 0; d < a[k].nd; d++) size *= a[k].dims[d];
            *high = data[k] + size;
            return;
        }
        for (int d = 0; d < nd; d++) {
            const int64 reach = (dims[d] - 1) * strides[k][d];
            (reach < 0 ? *low : *high) += reach;
        }
    }

    // Whether two operands are columns of one matrix, with none in common: rows at equal distances, each
    // narrower than what lies between the one's row and the other's.
    bool side_by_side(int k, int m) const {
        if (nd != 2 || K::kinds[m] == RAW || K::sizes[k] != K::sizes[m] || strides[k][0] <= 0) return false;
        for (int d = 0; d < 2; d++)
            if (strides[k][d] != strides[m][d]) return false;
        if (strides[k][1] != K::sizes[k]) return false;
        const int64 row = strides[k][0], width = dims[1] * K::sizes[k];
        const int64 gap = ((data[m] - data[k]) % row + row) % row;
        return gap >= width && row - gap >= width;
    }

    // An output may be an input, element for element; any other meeting would make the order of work matter.
    bool overlaps(const Array* a) const {
        for (int k = 0; k < N; k++) {
            if (!is_output(K::kinds[k])) continue;
            const char *low, *high, *other_low, *other_high;
            extent(k, a, &low, &high);
            for (int m = 0; m < N; m++) {
                if (m == k) continue;
                extent(m, a, &other_low, &other_high);
                if (high <= other_low || other_high <= low || side_by_side(k, m)) continue;
                bool same = K::kinds[m] == INPUT && data[m] == data[k] && K::sizes[m] == K::sizes[k];
                for (int d = 0; d < nd && same; d++) same = strides[k][d] == strides[m][d];
                if (!same) return true;
            }
        }
        return false;
    }

    bool contiguous() const {
        bool all = nd == 1;
        for (int k = 0; k < N && all; k++) all = K::kinds[k] == RAW || strides[k][0] == K::sizes[k];
        return all;
    }

    void run(int threads) const {
        if (contiguous()) {
            in_parallel(threads_for(n, threads), [this](int part, int parts) {
                const int64 lines = (n + 63) / 64;  // threads meet at multiples of 64 elements
                const int64 from = lines * part / parts * 64, to = lines * (part + 1) / parts * 64;
                char* p[N];
                for (int k = 0; k < N; k++) p[k] = data[k] + (K::kinds[k] == RAW ? 0 : from * K::sizes[k]);
                K::flat(p, hp, from, (to < n ? to : n) - from, n);
            });
            return;
        }
        const int64 inner = dims[nd - 1], pieces = (inner + PIECE - 1) / PIECE, all = n / inner * pieces;
        in_parallel(threads_for(n, threads), [&](int part, int parts) {
            for (int64 piece = all * part / parts; piece < all * (part + 1) / parts; piece++)
                walk(piece / pieces, piece % pieces * PIECE);
        });
    }

    // One piece of one row of the innermost dimension.
    void walk(int64 row, int64 start) const {
        alignas(64) char buffer[N][PIECE * 8];
        char *p[N], *place[N];
        const int last = nd - 1;
        const int64 inner = dims[last], count = inner - start < PIECE ? inner - start : (int64)PIECE;
        for (int k = 0; k < N; k++) place[k] = data[k] + start * strides[k][last];
        int64 rest = row;
        for (int d = last - 1; d >= 0; d--) {
            const int64 at = rest % dims[d];
            rest /= dims[d];
            for (int k = 0; k < N; k++) place[k] += at * strides[k][d];
        }
        for (int k = 0; k < N; k++) {
            p[k] = place[k];
            if (K::kinds[k] == RAW || strides[k][last] == K::sizes[k]) continue;
            p[k] = buffer[k];
            if (K::kinds[k] != OUTPUT) move(p[k], K::sizes[k], place[k], strides[k][last], K::sizes[k], count);
        }
        K::flat(p, hp, row * inner + start, count, n);
        for (int k = 0; k < N; k++)
            if (is_output(K::kinds[k]) && p[k] == buffer[k])
                move(place[k], strides[k][last], p[k], K::sizes[k], K::sizes[k], count);
    }
};

template <class K> static int launch(const Array* a, const typename K::T* hp, int threads, int checked) {
    Loop<K> loop;
    loop.hp = hp;
    if (int why = loop.plan(a)) return why;
    if (loop.n == 0) return DONE;
    if (!checked && loop.overlaps(a)) return OVERLAP;
    loop.run(threads);
    return DONE;
}

}  // namespace minigrad
