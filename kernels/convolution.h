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
// out after all. Memory: planes and products of one image or block a thread, columns of at most FEW pixels, and the
// sums of a weight's gradient for each thread, up to SUMS bytes together.
//
// The products stand in tiles.h, geometry and copies in planes.h; host.py puts the three files together.

namespace {

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

// Runs work(first, last, part) for each part: a range of images, and a thread.
template <class Work> static void in_parts(const Geometry& s, int64 parts, const Work& work) {
    const int64 blocks = (s.images + s.block - 1) / s.block;
    const auto some = [&](int64 part) {
        const int64 last = blocks * (part + 1) / parts * s.block;
        work(blocks * part / parts * s.block, last < s.images ? last : s.images, part);
    };
#ifdef _OPENMP
    if (parts > 1) {
#pragma omp parallel for num_threads((int)parts) schedule(static, 1)
        for (int64 part = 0; part < parts; part++) some(part);
        return;
    }
#endif
    for (int64 part = 0; part < parts; part++) some(part);
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
    in_parts(s, s.parts(threads, 0), [&](int64 n, int64 last, int64) {
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

// Of the gradient g of y (with y: of g but where y <= 0) gx, gw and the bias's gb, each of which may be null.
extern "C" int backward(const S* x, const S* w, const S* g, const S* y, S* gx, S* gw, S* gb, const int64* shape,
                        int64 threads) try {
    const Plan s(shape, w, gx);
    const int64 wide = round_up(s.o, LANES), outputs = s.groups * s.o, sums = s.groups * s.depth * wide;
    const bool few = s.o * 4 < LANES;
    const int64 parts = s.parts(threads, gw ? sums * sizeof(S) : 0);
    std::vector<S> all_gw(gw ? parts * sums : 0), all_gb(parts * outputs);  // one for each part
    bool failed = false;
    in_parts(s, parts, [&](int64 n, int64 last, int64 part) {
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
