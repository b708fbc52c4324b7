// c = a b for matrices of moderate size.
//
// BLAS copies both factors into an order of its own before it multiplies. That pays when every number is used
// thousands of times; with a batch of 32 rows the copy of the weights takes as long as the product. Here the factors
// are read where they are, and one is copied only where its rows do not lie along vectors:
//
//     rows of b without gaps      c[i][j..] += a[i][k] b[k][j..]            x @ w, and both gradients of x @ w.T
//     columns of b without gaps   the same with a copy of b, or c^T = b^T a^T with one of a: the smaller of the two
//
// Each sum runs along k in order, 256 terms at a time: so a number does not depend on how many rows stand beside it,
// nor on the number of threads.
//
// With vectors of less than 512 bits there are too few registers for tiles of this kind, and BLAS is better.
// Below preamble.h (arrays out of Python's tuple) and tiles.h (vectors).

namespace {

enum { WIDEST = 4 };                  // vectors of a tile
constexpr int rows_of(int vectors) {  // so that its sums fill 24 of 32 registers; a single vector has no more rows
    return vectors == 1 ? 16 : 24 / vectors;
}

// A factor whose element (row, k) is at p[row * row_step + k * k_step].
struct Factor {
    const S* p;
    int64 row_step, k_step;
};

// (+)= M rows and N vectors of c; the last vector is `edge` elements long.
template <int M, int N> INLINE void tile(Factor a, const S* b, int64 ldb, int64 depth, S* c, int64 ldc, int64 edge,
                                         bool more) {
    Vector sum[M][N];
    for (int m = 0; m < M; m++)
        for (int v = 0; v < N; v++) sum[m][v] = Vector{};
    for (int64 k = 0; k < depth; k++) {
        Vector x[N];
        for (int v = 0; v < N; v++) x[v] = load(b + k * ldb + v * LANES);
        for (int m = 0; m < M; m++) {
            const S f = a.p[m * a.row_step + k * a.k_step];
            for (int v = 0; v < N; v++) sum[m][v] += f * x[v];
        }
    }
    for (int m = 0; m < M; m++)
        for (int v = 0; v < N; v++) {
            S* const to = c + m * ldc + v * LANES;
            if (v < N - 1 || edge == LANES) {
                store(to, more ? load(to) + sum[m][v] : sum[m][v]);
            } else {
                Vector before = {};
                if (more) memcpy(&before, to, edge * sizeof(S));
                before += sum[m][v];
                memcpy(to, &before, edge * sizeof(S));
            }
        }
}

template <int N> static void panel(Factor a, int64 rows, const S* b, int64 ldb, int64 depth, S* c, int64 ldc,
                                   int64 edge, bool more) {
    constexpr int M = rows_of(N);
    int64 m = 0;
    for (; m + M <= rows; m += M)
        tile<M, N>({a.p + m * a.row_step, a.row_step, a.k_step}, b, ldb, depth, c + m * ldc, ldc, edge, more);
    for (; m + 4 <= rows; m += 4)
        tile<4, N>({a.p + m * a.row_step, a.row_step, a.k_step}, b, ldb, depth, c + m * ldc, ldc, edge, more);
    for (; m < rows; m++)
        tile<1, N>({a.p + m * a.row_step, a.row_step, a.k_step}, b, ldb, depth, c + m * ldc, ldc, edge, more);
}

static void panels(int n, Factor a, int64 rows, const S* b, int64 ldb, int64 depth, S* c, int64 ldc, int64 edge,
                   bool more) {
    if (n == 1) panel<1>(a, rows, b, ldb, depth, c, ldc, edge, more);
    else if (n == 2) panel<2>(a, rows, b, ldb, depth, c, ldc, edge, more);
    else if (n == 3) panel<3>(a, rows, b, ldb, depth, c, ldc, edge, more);
    else panel<4>(a, rows, b, ldb, depth, c, ldc, edge, more);
}

// c = a b, the rows of b and c without gaps. `room` holds DEPTH vectors: what is left of b beside whole vectors.
static void multiply_rows(Factor a, int64 rows, const S* b, int64 ldb, int64 depth, S* c, int64 ldc, int64 columns,
                         S* room) {
    for (int64 k = 0; k < depth || k == 0; k += DEPTH) {
        const int64 part = depth - k < DEPTH ? depth - k : (int64)DEPTH, whole = columns / LANES;
        const Factor from = {a.p + k * a.k_step, a.row_step, a.k_step};
        for (int64 v = 0; v < whole;) {
            const int64 left = whole - v;
            const int n = left <= WIDEST ? (int)left : left < 2 * WIDEST ? (int)(left + 1) / 2 : (int)WIDEST;
            panels(n, from, rows, b + k * ldb + v * LANES, ldb, part, c + v * LANES, ldc, LANES, k > 0);
            v += n;
        }
        if (const int64 edge = columns - whole * LANES) {
            for (int64 r = 0; r < part; r++) {
                store(room + r * LANES, Vector{});
                memcpy(room + r * LANES, b + (k + r) * ldb + whole * LANES, edge * sizeof(S));
            }
            panels(1, from, rows, room, LANES, part, c + whole * LANES, ldc, edge, k > 0);
        }
    }
}

// to[j][i] = from[i][j], by pieces of 16 rows: a line of `to` is written whole while it is in the nearest cache.
static void turn(const S* from, int64 rows, int64 columns, int64 ld, S* to, int64 ldt) {
    for (int64 top = 0; top < rows; top += 16) {
        const int64 bottom = top + 16 < rows ? top + 16 : rows;
        int64 j = 0;
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
        typedef Bytes<4 * sizeof(S)>::Vector Four;
        for (; j + 4 <= columns; j += 4) {
            int64 i = top;
            for (; i + 4 <= bottom; i += 4) {
                const S* f = from + i * ld + j;
                const Four p = load<Four>(f), q = load<Four>(f + ld);
                const Four r = load<Four>(f + 2 * ld), s = load<Four>(f + 3 * ld);
                const Four pr = __builtin_shufflevector(p, r, 0, 4, 1, 5);
                const Four qs = __builtin_shufflevector(q, s, 0, 4, 1, 5);
                const Four rp = __builtin_shufflevector(p, r, 2, 6, 3, 7);
                const Four sq = __builtin_shufflevector(q, s, 2, 6, 3, 7);
                S* t = to + j * ldt + i;
                store(t, __builtin_shufflevector(pr, qs, 0, 4, 1, 5));
                store(t + ldt, __builtin_shufflevector(pr, qs, 2, 6, 3, 7));
                store(t + 2 * ldt, __builtin_shufflevector(rp, sq, 0, 4, 1, 5));
                store(t + 3 * ldt, __builtin_shufflevector(rp, sq, 2, 6, 3, 7));
            }
            for (; i < bottom; i++)
                for (int64 q = j; q < j + 4; q++) to[q * ldt + i] = from[i * ld + q];
        }
#endif
#endif
        for (; j < columns; j++)
            for (int64 i = top; i < bottom; i++) to[j * ldt + i] = from[i * ld + j];
    }
}

// One product of matrices. Element (row, column) of b is at b[row * bk + column * bj], one of the two steps being 1.
static void multiply(Factor a, int64 rows, const S* b, int64 bk, int64 bj, int64 depth, S* c, int64 ci, int64 columns) {
    static thread_local std::vector<S> room;
    if (bj == 1) {
        room.resize(DEPTH * LANES);
        return multiply_rows(a, rows, b, bk, depth, c, ci, columns, room.data());
    }
    if (a.k_step == 1 && rows * (depth + columns) < columns * depth) {  // c^T = b^T a^T
        const int64 wide = round_up(rows, LANES);
        room.resize((depth + columns) * wide);  // a^T and c^T; their rows are whole vectors
        S *at = room.data(), *ct = at + depth * wide;
        turn(a.p, rows, depth, a.row_step, at, wide);
        if (wide > rows)
            for (int64 k = 0; k < depth; k++) memset(at + k * wide + rows, 0, (wide - rows) * sizeof(S));
        multiply_rows({b, bj, 1}, columns, at, wide, depth, ct, wide, wide, nullptr);
        return turn(ct, columns, rows, wide, c, ci);
    }
    const int64 wide = round_up(columns, LANES);
    room.resize(depth * wide + DEPTH * LANES);
    turn(b, columns, depth, bj, room.data(), wide);
    multiply_rows(a, rows, room.data(), wide, depth, c, ci, columns, room.data() + depth * wide);
}

}  // namespace

// args = (a, b, c), a of S, all with as many axes: c = a b, the matrices being in the last two. Anything but 0 says
// that this is for BLAS: other types, a vector, or so large a product that copies pay.
extern "C" int product(const minigrad::PyTuple* args, int threads) {
    enum { LARGEST = 1 << 27, GRAIN = 1 << 23, AXES = 8 };  // products of numbers; what is worth a thread
    minigrad::Array m[3];
    const char* end[3];
    if (args->size != 3) return 1;
    for (int q = 0; q < 3; q++) {
        if (!minigrad::read(args->items[q], &m[q]) || m[q].nd < 2 || m[q].nd > AXES || m[q].nd != m[0].nd) return 1;
        if (!(m[q].flags & minigrad::ALIGNED) || args->items[q]->descr != args->items[0]->descr) return 1;
        end[q] = m[q].data + sizeof(S);
        for (int d = 0; d < m[q].nd; d++) {
            if (m[q].strides[d] % (int64)sizeof(S) || m[q].strides[d] < 0) return 1;
            end[q] += (m[q].dims[d] - 1) * m[q].strides[d];
        }
    }
    const int outer = (int)m[0].nd - 2;
    const int64 *as = m[0].strides + outer, *bs = m[1].strides + outer, *cs = m[2].strides + outer;
    const int64 size = sizeof(S), rows = m[0].dims[outer], depth = m[0].dims[outer + 1], columns = m[1].dims[outer + 1];
    if (m[1].dims[outer] != depth || m[2].dims[outer] != rows || m[2].dims[outer + 1] != columns) return 1;
    if (rows < 4 || columns < 4 || !depth || rows * columns > LARGEST / depth) return 1;
    if (cs[1] != size || cs[0] < columns * size || !(m[2].flags & minigrad::WRITEABLE)) return 1;
    if (bs[1] != size && bs[0] != size) return 1;
    for (int q = 0; q < 2; q++) {
        if (m[q].data < end[2] && m[2].data < end[q]) return 1;
        for (int d = 0; d < outer; d++)
            if (m[q].dims[d] != m[2].dims[d]) return 1;
    }
    int64 batch = 1;
    for (int d = 0; d < outer; d++) batch *= m[2].dims[d];
    const auto work = [&](int64 from, int64 to, int64 first, int64 last) {  // of the batch; of the rows
        for (int64 n = from; n < to; n++) {
            const char* at[3] = {m[0].data, m[1].data, m[2].data};
            int64 rest = n;
            for (int d = outer - 1; d >= 0; d--) {
                const int64 place = rest % m[2].dims[d];
                rest /= m[2].dims[d];
                for (int q = 0; q < 3; q++) at[q] += place * m[q].strides[d];
            }
            multiply({(const S*)(at[0] + first * as[0]), as[0] / size, as[1] / size}, last - first, (const S*)at[1],
                     bs[0] / size, bs[1] / size, depth, (S*)(at[2] + first * cs[0]), cs[0] / size, columns);
        }
    };
    const int64 all = batch * rows * columns * depth, useful = all / GRAIN;
    const int parts = useful < 2 ? 1 : useful < threads ? (int)useful : threads;
    bool failed = false;
    try {
#ifdef _OPENMP
        if (parts > 1) {
#pragma omp parallel for num_threads(parts) schedule(static, 1)
            for (int part = 0; part < parts; part++) {
                try {
                    if (batch >= parts) work(batch * part / parts, batch * (part + 1) / parts, 0, rows);
                    else work(0, batch, rows * part / parts, rows * (part + 1) / parts);
                } catch (const std::bad_alloc&) {
                    failed = true;
                }
            }
            return failed;
        }
#endif
        work(0, batch, 0, rows);
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return failed;
}

extern "C" int vector_bytes() { return BYTES; }
extern "C" void know(const void* type) { minigrad::ndarray_type = type; }
