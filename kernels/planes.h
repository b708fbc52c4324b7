// Where everything lies in a convolution (see convolution.h), and the copies that bring it there.

namespace {

enum { FEW = 192, SUMS = 64 << 20 };  // pixels of a block of small images; bytes for gradients of the weight

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
    // Ranges of blocks for threads of their own, where that pays, and their sums (of so many bytes) stay below SUMS.
    int64 parts(int64 threads, int64 sums) const {
        const int64 blocks = (images + block - 1) / block;
        const bool pays = 2.0 * images * groups * o * depth * oh * ow > 4e6;
        int64 n = pays ? threads : 1;
        n = n < blocks ? n : blocks;
        while (n > 1 && n * sums > SUMS) n--;
        return n > 1 ? n : 1;
    }
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

// ---- copies ----------------------------------------------------------------------------------------------------

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

// Rows of g, or of g but where y <= 0 (at nan it passes), of one image; zeros between them.
static void masked(const Geometry& s, const S* g, const S* y, S* to) {
    for (int64 k = 0; k < s.o; k++, to += s.ld)
        for (int64 r = 0; r < s.oh; r++, g += s.ow) {
            S* row = to + r * s.step;
            if (y) {
                along(s.ow, [=](int64 q, auto v) {
                    store(row + q, load<decltype(v)>(y + q) <= v ? v : load<decltype(v)>(g + q));
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

}  // namespace
