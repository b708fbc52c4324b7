// Convolution on a CPU, without columns: the products read the padded image itself.
//
// Written out, z[o][p] = sum over k of w[o][k] columns[k][p], where k counts (channel, tap) and p output pixels. Row k
// of the columns is a piece of the image, moved by the tap. So the image is copied once, with its padding, into
// planes whose rows are as long as the distance from one output row to the next, and then every row of the columns
// is such a plane read from another start: columns[k][p] = planes[start[k] + p]. A stride of s makes s planes of each
// axis, one a phase (row modulo s). What is computed between two output rows is left out at the end.
//
//     forward          z[o][p]  = sum over k of w[o][k] planes[start[k] + p]
//     gradient of x    the same product: planes of the gradient, weights with their channels exchanged, and for each
//                      phase of x the taps that reach it. Every pixel gathers; nothing is scattered.
//     gradient of w    gw[o][k] = sum over p of g[o][p] planes[start[k] + p]
//
// Images of few pixels would leave the registers idle: of these a block is taken at once, and its columns are written
// out after all. Memory: planes and products of one image or block a thread; columns of at most FEW pixels.

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
enum { DEPTH = 256, PIXELS = 128, FEW = 192, SLACK = LANES };  // SLACK: what is read behind the last plane, and not used
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

// ---- the two products, in registers ----------------------------------------------------------------------------------

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

// ---- where everything lies -------------------------------------------------------------------------------------------

struct Geometry {
    int64 images, groups, c, o, h, w, kh, kw, sh, sw, top, left, dh, dw, oh, ow;  // c and o are those of one group
    int64 taps, depth;
    int64 reach_h, reach_w;    // how many rows (columns) of a phase lie between the first tap and the last
    int64 rows, width, planes; // of the planes of x, and the size of all of them
    int64 first_h, first_w;    // the row (column) of g that comes first in its planes: negative where they are padded
    int64 g_rows, g_width, g_planes;
    int64 block;               // how many images are taken at once; their columns are written out if several
    int64 step, pitch, ld;     // from one output row to the next, from image to image; room for a block's pixels

    explicit Geometry(const int64* s)
        : images(s[0]), groups(s[1]), c(s[2]), o(s[3]), h(s[4]), w(s[5]), kh(s[6]), kw(s[7]), sh(s[8]), sw(s[9]),
          top(s[10]), left(s[11]), dh(s[12]), dw(s[13]), oh(s[14]), ow(s[15]) {
        taps = kh * kw, depth = c * taps;
        reach_h = (kh - 1) * dh / sh, reach_w = (kw - 1) * dw / sw;
        rows = oh + reach_h, width = ow + reach_w, planes = c * sh * sw * rows * width;
        first_h = top / sh - reach_h, first_w = left / sw - reach_w;
        g_rows = (h - 1 + top) / sh + 1 - first_h, g_width = (w - 1 + left) / sw + 1 - first_w;
        g_planes = o * g_rows * g_width;
        const int64 phase = ceil_div(h, sh) * ceil_div(w, sw), pixels = oh * ow > phase ? oh * ow : phase;
        block = pixels * 4 > FEW ? 1 : FEW / pixels;
        block = block < images ? block : images > 0 ? images : 1;
        step = block > 1 ? ow : width;
        pitch = block > 1 ? oh * ow : (oh - 1) * width + ow;
        ld = round_up(block * pitch, LANES);
    }

    void starts(int64* start) const {
        for (int64 k = 0; k < c; k++)
            for (int64 i = 0; i < kh; i++)
                for (int64 j = 0; j < kw; j++) {
                    const int64 phase = i * dh % sh * sw + j * dw % sw;
                    *start++ = ((k * sh * sw + phase) * rows + i * dh / sh) * width + j * dw / sw;
                }
    }
    double operations() const { return 2.0 * images * groups * o * depth * oh * ow; }
};

// The pixels of x whose row and column, with the padding, are a and b modulo the strides; and the taps they meet.
struct Phase {
    int64 a, b, first_r, rows, first_c, columns, depth;
    std::vector<int64> taps;
    Phase(const Geometry& s, int64 a, int64 b) : a(a), b(b) {
        first_r = a < s.top ? ceil_div(s.top - a, s.sh) : 0, first_c = b < s.left ? ceil_div(s.left - b, s.sw) : 0;
        rows = (s.h - 1 + s.top - a + s.sh) / s.sh - first_r, columns = (s.w - 1 + s.left - b + s.sw) / s.sw - first_c;
        for (int64 t = 0; t < s.taps && rows > 0 && columns > 0; t++)
            if (t / s.kw * s.dh % s.sh == a && t % s.kw * s.dw % s.sw == b) taps.push_back(t);
        depth = s.o * taps.size();
    }
    // Where the rows of columns (o, taps) start in the planes of g.
    void starts(const Geometry& s, int64* start) const {
        for (int64 o = 0; o < s.o; o++)
            for (int64 t : taps) {
                const int64 u = first_r - t / s.kw * s.dh / s.sh - s.first_h;
                const int64 v = first_c - t % s.kw * s.dw / s.sw - s.first_w;
                *start++ = (o * s.g_rows + u) * s.g_width + v;
            }
    }
    // Weights (o, c, all taps) as (c, o, taps of this phase).
    void turn(const Geometry& s, const S* w, S* to) const {
        const int64 n = taps.size();
        for (int64 c = 0; c < s.c; c += 8)
            for (int64 o = 0; o < s.o; o++)
                for (int64 e = c; e < c + 8 && e < s.c; e++)
                    for (int64 t = 0; t < n; t++) to[e * depth + o * n + t] = w[(o * s.c + e) * s.taps + taps[t]];
    }
};

// ---- copies ------------------------------------------------------------------------------------------------------------

// Runs f(q, V()) for vectors V of pixels q, q + 1, ...: the widest that fit, the last one moved back to the end.
template <class V, class F> INLINE void vectors(int64 n, const F& f) {
    enum { L = sizeof(V) / sizeof(S) };
    for (int64 q = 0; q + L <= n; q += L) f(q, V());
    if (n % L) f(n - L, V());
}
template <class F> INLINE void along(int64 n, const F& f) {
    typedef Bytes<16>::Vector Small;
    if (n >= (int64)LANES) vectors<Vector>(n, f);
    else if (n >= (int64)(16 / sizeof(S))) vectors<Small>(n, f);
    else
        for (int64 q = 0; q < n; q++) f(q, S());
}
INLINE void copy(S* to, const S* from, int64 n) {
    along(n, [=](int64 q, auto v) { store(to + q, load<decltype(v)>(from + q)); });
}
INLINE void clear(S* to, int64 n) {
    along(n, [=](int64 q, auto v) { store(to + q, v); });  // vectors of zeros
}

// A row of `count`, whose element q is from[at + q step], or 0 where that is outside 0 ... n - 1.
struct RowCopy {
    int64 count, at, step, low, high;
    RowCopy(int64 count, int64 n, int64 at, int64 step) : count(count), at(at), step(step) {
        low = at < 0 ? ceil_div(-at, step) : 0, high = at < n ? (n - 1 - at) / step + 1 : 0;
        low = low < count ? low : count, high = high < count ? high : count, high = high > low ? high : low;
    }
    void operator()(S* to, const S* from) const {
        for (int64 q = 0; q < low; q++) to[q] = 0;
        if (step == 1) copy(to + low, from + at + low, high - low);
        else
            for (int64 q = low; q < high; q++) to[q] = from[at + q * step];
        for (int64 q = high; q < count; q++) to[q] = 0;
    }
};

static void planes_of_x(const Geometry& s, const S* x, S* planes) {
    for (int64 b = 0; b < s.sw; b++) {
        const RowCopy row(s.width, s.w, b - s.left, s.sw);
        for (int64 k = 0; k < s.c; k++)
            for (int64 a = 0; a < s.sh; a++) {
                S* to = planes + ((k * s.sh + a) * s.sw + b) * s.rows * s.width;
                for (int64 q = 0, r = a - s.top; q < s.rows; q++, r += s.sh, to += s.width) {
                    if (r < 0 || r >= s.h) clear(to, s.width);
                    else row(to, x + (k * s.h + r) * s.w);
                }
            }
    }
}

// Planes of the gradient, from rows as `masked` writes them.
static void planes_of_g(const Geometry& s, const S* rows, S* planes) {
    const RowCopy row(s.g_width, s.ow, s.first_w, 1);
    for (int64 k = 0; k < s.o; k++)
        for (int64 u = 0, r = s.first_h; u < s.g_rows; u++, r++, planes += s.g_width) {
            if (r < 0 || r >= s.oh) clear(planes, s.g_width);
            else row(planes, rows + k * s.ld + r * s.step);
        }
}

// The columns of one image, written out in rows of `ld`.
static void columns(const S* planes, int64 width, const int64* start, int64 depth, int64 rows, int64 n, S* to,
                    int64 ld) {
    for (int64 k = 0; k < depth; k++, to += ld)
        for (int64 r = 0; r < rows; r++) copy(to + r * n, planes + start[k] + r * width, n);
}

// Rows of g, or of g where y > 0, of one image; zeros between them.
static void masked(const Geometry& s, const S* g, const S* y, S* to) {
    for (int64 k = 0; k < s.o; k++, to += s.ld)
        for (int64 r = 0; r < s.oh; r++, g += s.ow) {
            S* row = to + r * s.step;
            if (y) {
                along(s.ow, [=](int64 q, auto v) {
                    store(row + q, load<decltype(v)>(y + q) > v ? load<decltype(v)>(g + q) : v);
                });
                y += s.ow;
            } else {
                copy(row, g, s.ow);
            }
            for (int64 q = s.ow; r + 1 < s.oh && q < s.step; q++) row[q] = 0;
        }
}

// to[p][o] = from[o][p] in rows of `wide` channels, of which those beyond `channels` are zero
static void transpose(const S* from, int64 ld, int64 channels, int64 length, S* to, int64 wide) {
    for (int64 k = 0; k < wide; k += LANES)
        for (int64 p = 0; p < length; p++) {
            S* t = to + p * wide + k;
            const S* f = from + k * ld + p;
            if (k + LANES <= channels)
                for (int64 l = 0; l < LANES; l++) t[l] = f[l * ld];
            else
                for (int64 l = 0; l < LANES; l++) t[l] = k + l < channels ? f[l * ld] : 0;
        }
}

// y = z + bias, or max(z + bias, 0), of one image, without what lies between the rows
static void finish(const Geometry& s, const S* z, const S* bias, bool relu, S* y) {
    for (int64 k = 0; k < s.o; k++, z += s.ld) {
        const S b = bias ? bias[k] : 0;
        for (int64 r = 0; r < s.oh; r++, y += s.ow) {
            const S* f = z + r * s.step;
            if (relu)
                along(s.ow, [=](int64 q, auto v) {
                    const decltype(v) d = load<decltype(v)>(f + q) + b;
                    store(y + q, d < v ? v : d);  // a nan stays one
                });
            else
                along(s.ow, [=](int64 q, auto v) { store(y + q, load<decltype(v)>(f + q) + b); });
        }
    }
}

// ---- blocks of images --------------------------------------------------------------------------------------------------

struct Room {  // memory of one thread, given out in pieces
    char* memory;
    S* next;
    explicit Room(int64 elements) : memory((char*)malloc((elements + 16 * LANES) * sizeof(S))) {
        next = (S*)round_up((int64)(uintptr_t)memory, 64);
    }
    Room(const Room&) = delete;
    ~Room() { free(memory); }
    S* take(int64 n) {
        S* p = next;
        next += round_up(n, LANES);
        return p;
    }
};

// Runs work(first, last, part) for ranges of images, on as many threads as pay; how many those were.
template <class Work> static int in_parts(const Geometry& s, int64 threads, const Work& work) {
    const int64 blocks = (s.images + s.block - 1) / s.block;
    int64 parts = s.operations() < 4e6 ? 1 : threads;
    parts = parts < blocks ? parts : blocks;
    const auto some = [&](int64 part) {
        const int64 last = blocks * (part + 1) / parts * s.block;
        work(blocks * part / parts * s.block, last < s.images ? last : s.images, part);
    };
#ifdef _OPENMP
    if (parts > 1) {
#pragma omp parallel for num_threads((int)parts) schedule(static, 1)
        for (int64 part = 0; part < parts; part++) some(part);
        return (int)parts;
    }
#endif
    for (int64 part = 0; part < parts; part++) some(part);
    return (int)parts;
}

// What a call's threads share.
struct Plan : Geometry {
    std::vector<int64> start, column;      // of the rows of columns: in the planes of x, and written out
    std::vector<Phase> phases;             // for the gradient of x; and of each
    std::vector<int64> g_start, g_column;  // the same in the planes of g
    std::vector<S> turned;                 // and the weights
    int64 g_ld, g_depth;                   // the longest rows, the most of them
    bool several;

    Plan(const int64* shape, const S* w, bool wants_gx) : Geometry(shape), start(depth), column(depth) {
        several = block > 1, g_ld = g_depth = 0;
        starts(start.data());
        for (int64 k = 0; k < depth; k++) column[k] = k * ld;
        if (!wants_gx) return;
        for (int64 a = 0; a < sh; a++)
            for (int64 b = 0; b < sw; b++) {
                const Phase f(*this, a, b);
                phases.push_back(f);
                g_depth = f.depth > g_depth ? f.depth : g_depth;
                const int64 pixels = several ? block * f.rows * f.columns : f.rows * g_width;
                g_ld = pixels > g_ld ? pixels : g_ld;
            }
        g_ld = round_up(g_ld, LANES);
        g_start.resize(o * taps), turned.resize(groups * c * o * taps);
        for (int64 k = 0; k < g_depth; k++) g_column.push_back(k * g_ld);
        int64 done = 0;
        for (const Phase& f : phases) {
            f.starts(*this, g_start.data() + done);
            for (int64 g = 0; g < groups; g++)
                f.turn(*this, w + g * o * depth, turned.data() + g * o * depth + c * done);
            done += f.depth;
        }
    }
    int64 room_for_x() const { return planes + SLACK + (several ? depth * ld + SLACK : 0) + LANES; }
    int64 room_for_g() const { return block * g_planes + SLACK + (several ? g_depth * g_ld + SLACK : 0) + LANES; }

    // Images n, n + 1, ... of group g, as the products read them.
    const S* read_x(const S* x, int64 n, int64 count, int64 g, S* room) const {
        S* const written = room + round_up(planes + SLACK, LANES);
        for (int64 i = 0; i < count; i++) {
            planes_of_x(*this, x + ((n + i) * groups + g) * c * h * w, room);
            if (several) columns(room, width, start.data(), depth, oh, ow, written + i * pitch, ld);
        }
        return several ? written : room;
    }
    const int64* starts_of_x() const { return several ? column.data() : start.data(); }

    // gx of images n, n + 1, ... of group g: each phase is a product, whose pixels go to their places.
    void gradient_of_x(const S* rows, int64 n, int64 count, int64 g, S* room, S* z, S* gx) const {
        S* const written = room + round_up(block * g_planes + SLACK, LANES);
        for (int64 i = 0; i < count; i++) planes_of_g(*this, rows + i * pitch, room + i * g_planes);
        const S* weights = turned.data() + g * c * o * taps;
        const int64* start = g_start.data();
        for (const Phase& f : phases) {
            const int64 width = several ? f.columns : g_width, pixels = several ? f.rows * f.columns : f.rows * g_width;
            if (several)
                for (int64 i = 0; i < count; i++)
                    columns(room + i * g_planes, g_width, start, f.depth, f.rows, f.columns, written + i * pixels, g_ld);
            multiply(weights, f.depth, c, several ? written : room, several ? g_column.data() : start, z, g_ld,
                     count * pixels - (width - f.columns));
            for (int64 i = 0; i < count; i++)
                for (int64 k = 0; k < c; k++)
                    for (int64 r = 0; r < f.rows; r++) {
                        const int64 row = (f.first_r + r) * sh + f.a - top, at = f.first_c * sw + f.b - left;
                        S* to = gx + ((((n + i) * groups + g) * c + k) * h + row) * this->w + at;
                        const S* from = z + k * g_ld + i * pixels + r * width;
                        if (f.depth && sw == 1) copy(to, from, f.columns);
                        else
                            for (int64 q = 0; q < f.columns; q++) to[q * sw] = f.depth ? from[q] : 0;
                    }
            weights += c * f.depth, start += f.depth;
        }
    }
};

}  // namespace

// y (n, groups o, oh, ow) of x (n, groups c, h, w) and w (groups o, c, kh, kw); bias may be null. 1: out of memory.
extern "C" int forward(const S* x, const S* w, const S* bias, S* y, const int64* shape, int64 relu,
                       int64 threads) try {
    const Plan s(shape, w, false);
    bool failed = false;
    in_parts(s, threads, [&](int64 n, int64 last, int64) {
        Room room(s.room_for_x() + s.o * s.ld);
        if (!room.memory) failed = true;
        S *of_x = room.take(s.room_for_x()), *z = room.take(s.o * s.ld);
        for (; room.memory && n < last; n += s.block) {
            const int64 count = last - n < s.block ? last - n : s.block;
            for (int64 g = 0; g < s.groups; g++) {
                const S* read = s.read_x(x, n, count, g, of_x);
                multiply(w + g * s.o * s.depth, s.depth, s.o, read, s.starts_of_x(), z, s.ld, count * s.pitch);
                for (int64 i = 0; i < count; i++)
                    finish(s, z + i * s.pitch, bias ? bias + g * s.o : 0, relu,
                           y + ((n + i) * s.groups + g) * s.o * s.oh * s.ow);
            }
        }
    });
    return failed;
} catch (const std::bad_alloc&) {
    return 1;
}

// Of the gradient g of y (with y: of g where y > 0) gx, gw and the bias's gb, each of which may be null.
extern "C" int backward(const S* x, const S* w, const S* g, const S* y, S* gx, S* gw, S* gb, const int64* shape,
                        int64 threads) try {
    const Plan s(shape, w, gx);
    const int64 wide = round_up(s.o, LANES), outputs = s.groups * s.o, sums = s.groups * s.depth * wide;
    const bool few = s.o * 4 < LANES;
    std::vector<S> all_gw(gw ? threads * sums : 0), all_gb(threads * outputs);  // one for each part
    bool failed = false;
    const int parts = in_parts(s, threads, [&](int64 n, int64 last, int64 part) {
        const int64 for_rows = s.o * s.ld, for_gt = gw && !few ? s.ld * wide : 0, for_x = gw ? s.room_for_x() : 0;
        const int64 for_g = gx ? s.room_for_g() : 0, for_z = gx ? s.c * s.g_ld : 0;
        Room room(for_rows + for_gt + for_x + for_g + for_z);
        if (!room.memory) failed = true;
        S *rows = room.take(for_rows), *gt = room.take(for_gt), *of_x = room.take(for_x);
        S *of_g = room.take(for_g), *z = room.take(for_z);
        for (; room.memory && n < last; n += s.block) {
            const int64 count = last - n < s.block ? last - n : s.block;
            for (int64 k = 0; k < s.groups; k++) {
                for (int64 i = 0; i < count; i++) {
                    const int64 at = ((n + i) * s.groups + k) * s.o * s.oh * s.ow;
                    masked(s, g + at, y ? y + at : 0, rows + i * s.pitch);
                }
                for (int64 o = 0; o < s.o; o++) {
                    clear(rows + o * s.ld + count * s.pitch, s.ld - count * s.pitch);
                    Vector sum = {};
                    for (int64 p = 0; gb && p < s.ld; p += LANES) sum += load(rows + o * s.ld + p);
                    for (int l = 0; l < LANES; l++) all_gb[part * outputs + k * s.o + o] += sum[l];
                }
                if (gw) {
                    const S* read = s.read_x(x, n, count, k, of_x);
                    S* to = all_gw.data() + part * sums + k * s.depth * wide;
                    if (few) correlate_few(rows, s.ld, s.o, wide, read, s.starts_of_x(), s.depth, count * s.pitch, to);
                    else {
                        transpose(rows, s.ld, s.o, count * s.pitch, gt, wide);
                        correlate_all(gt, wide, read, s.starts_of_x(), s.depth, count * s.pitch, to);
                    }
                }
                if (gx) s.gradient_of_x(rows, n, count, k, of_g, z, gx);
            }
        }
    });
    for (int64 d = 0; gw && d < s.groups * s.depth; d += 16)  // in squares, for the cache's sake
        for (int64 o = 0; o < s.o; o += 16)
            for (int64 e = d; e < d + 16 && e < s.groups * s.depth; e++)
                for (int64 q = o; q < o + 16 && q < s.o; q++) {
                    S sum = 0;
                    for (int part = 0; part < parts; part++) sum += all_gw[part * sums + e * wide + q];
                    gw[(e / s.depth * s.o + q) * s.depth + e % s.depth] = sum;
                }
    for (int64 k = 0; gb && k < outputs; k++) {
        gb[k] = 0;
        for (int part = 0; part < parts; part++) gb[k] += all_gb[part * outputs + k];
    }
    return failed;
} catch (const std::bad_alloc&) {
    return 1;
}
