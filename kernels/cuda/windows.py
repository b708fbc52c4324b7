"""Windows on a GPU: the functions of kernels/windows.py, a thread for every element that is written.

Each element gathers what belongs to it, in a fixed order; no atomics. The geometry is written into the
source, so that all divisions by it are multiplications; the numbers of images and channels are arguments.
Images and columns that are read may have any strides; what is written is contiguous.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from kernels.cuda.preamble import preamble
from kernels.dtypes import C_NAME, compute_type
from kernels.windows import Windows, first_taps, tap_type

TEXT = """
#define STRIDES(x) Index x##_n, Index x##_c, Index x##_h, Index x##_w  // of (N, C, H, W), in elements

// Pixel (h, w) of tap (i, j) at output (r, q), and whether it is one of the image's.
#define PIXEL(r, q, i, j) \\
    const int h = (r) * SH + (i) * DH - TOP, w = (q) * SW + (j) * DW - LEFT; \\
    const bool inside = h >= 0 && h < H && w >= 0 && w < W;

// The output that sees row (column) h by tap i: `out` of them, or -1.
__device__ __forceinline__ int seen_by(int h, int tap, int stride, int before, int dilation, int out) {
    const int at = h + before - tap * dilation;
    return at >= 0 && at % stride == 0 && at / stride < out ? at / stride : -1;
}

#define ELEMENT(total) \\
    const Index e = (Index)blockIdx.x * blockDim.x + threadIdx.x; \\
    if (e >= (total)) return;

// c[n][k][i][j][r][q] of x, or c[k][i][j][n][r][q]
extern "C" __global__ void columns(const S* x, S* c, Index images, Index channels, STRIDES(x),
                                   Index images_first) {
    ELEMENT(images * channels * KH * KW * OH * OW)
    const int q = e % OW, r = e / OW % OH;
    Index rest = e / (OH * OW);
    const Index last = rest % images;  // of order "CN"
    if (!images_first) rest /= images;
    const int j = rest % KW, i = rest / KW % KH;
    rest /= KH * KW;
    const Index k = images_first ? rest % channels : rest, n = images_first ? rest / channels : last;
    PIXEL(r, q, i, j)
    c[e] = inside ? x[n * x_n + k * x_c + h * x_h + w * x_w] : S(0);
}

// x[n][k][h][w] = the sum of c[n][k][i][j][r][q] over all that see it; the strides of c, then of its taps
extern "C" __global__ void fold(const S* c, S* x, Index images, Index channels, STRIDES(c), Index c_i,
                                Index c_j) {
    ELEMENT(images * channels * H * W)
    const int w = e % W, h = e / W % H;
    const S* from = c + e / (H * W) / channels * c_n + e / (H * W) % channels * c_c;
    T sum = T(0);
    for (int i = 0; i < KH; i++) {
        const int r = seen_by(h, i, SH, TOP, DH, OH);
        if (r < 0) continue;
        for (int j = 0; j < KW; j++) {
            const int q = seen_by(w, j, SW, LEFT, DW, OW);
            if (q >= 0) sum += T(from[i * c_i + j * c_j + r * c_h + q * c_w]);
        }
    }
    x[e] = sum;
}

extern "C" __global__ void total(const S* x, S* y, Index images, Index channels, STRIDES(x)) {
    ELEMENT(images * channels * OH * OW)
    const int q = e % OW, r = e / OW % OH;
    const S* from = x + e / (OH * OW) / channels * x_n + e / (OH * OW) % channels * x_c;
    T sum = T(0);
    for (int i = 0; i < KH; i++)
        for (int j = 0; j < KW; j++) {
            PIXEL(r, q, i, j)
            if (inside) sum += T(from[h * x_h + w * x_w]);
        }
    y[e] = sum;
}

extern "C" __global__ void largest(const S* x, S* y, Tap* taps, Index images, Index channels, STRIDES(x)) {
    ELEMENT(images * channels * OH * OW)
    const int q = e % OW, r = e / OW % OH;
    const S* from = x + e / (OH * OW) / channels * x_n + e / (OH * OW) % channels * x_c;
    T best = T(0);
    int found = -1;
    for (int i = 0; i < KH; i++)
        for (int j = 0; j < KW; j++) {
            PIXEL(r, q, i, j)
            if (!inside) continue;
            const T v = from[h * x_h + w * x_w];
            if (found < 0 || v > best || v != v) best = v, found = i * KW + j;
        }
    y[e] = best;
    taps[e] = found;
}

extern "C" __global__ void put(const S* g, const Tap* taps, S* x, Index images, Index channels) {
    ELEMENT(images * channels * H * W)
    const int w = e % W, h = e / W % H;
    const Index plane = e / (H * W) * (OH * OW);
    T sum = T(0);
    for (int i = KH - 1; i >= 0; i--) {  // windows in their order: later taps belong to earlier windows
        const int r = seen_by(h, i, SH, TOP, DH, OH);
        if (r < 0) continue;
        for (int j = KW - 1; j >= 0; j--) {
            const int q = seen_by(w, j, SW, LEFT, DW, OW);
            if (q >= 0 && taps[plane + r * OW + q] == i * KW + j) sum += T(g[plane + r * OW + q]);
        }
    }
    x[e] = sum;
}
"""
NAMES = "H W KH KW SH SW TOP LEFT DH DW OH OW".split()
THREADS = 256


def kernels(win: Windows, storage: str, long: bool) -> str:
    """The kernels for one geometry and type, in a namespace after the preamble (or tests/cuda_on_cpu.h)."""
    numbers = [n for pair in win for n in pair]
    constants = ", ".join([f"{name} = {n}" for name, n in zip(NAMES, numbers, strict=True)])
    types = dict(S=C_NAME[storage], T=C_NAME[compute_type(storage)], Tap=tap_type(win))
    types["Index"] = "int64" if long else "int"
    given = "".join([f"typedef {c} {name};\n" for name, c in types.items()])
    return f"namespace minigrad {{\n{given}enum {{ {constants} }};\n{TEXT}\n}}\n"


@functools.lru_cache(maxsize=512)
def compiled(name: str, win: Windows, storage: str, long: bool) -> Any:
    import cupy

    return cupy.RawKernel(preamble() + kernels(win, storage, long), name, options=("--std=c++17",))


def launch(name: str, win: Windows, arrays: tuple[Any, ...], *numbers: int) -> None:
    """Run a kernel, a thread for each element of the array it writes; numbers become its Index."""
    written = arrays[2 if name == "put" else 1]
    if written.size == 0:
        return
    long = max([_furthest(a) for a in arrays]) >= 2**31 - THREADS
    kernel = compiled(name, win, arrays[0].dtype.name, long)
    index = np.int64 if long else np.int32
    kernel((-(-written.size // THREADS),), (THREADS,), (*arrays, *[index(n) for n in numbers]))


def _strides(a: Any) -> list[int]:
    return [s // a.itemsize for s in a.strides]


def _furthest(a: Any) -> int:
    """The offset of the last element of an array of any strides."""
    return sum([(n - 1) * s for n, s in zip(a.shape, _strides(a), strict=True)])


def _empty(shape: tuple[int, ...], dtype: Any) -> Any:
    import cupy

    return cupy.empty(shape, dtype)


def columns(x: Any, win: Windows, order: str = "NC") -> Any:
    n, c = x.shape[:2]
    shape = (n, c, *win.kernel, *win.out) if order == "NC" else (c, *win.kernel, n, *win.out)
    y = _empty(shape, x.dtype)
    launch("columns", win, (x, y), n, c, *_strides(x), order == "NC")
    return y


def fold(c: Any, win: Windows) -> Any:
    x = _empty((*c.shape[:2], *win.size), c.dtype)
    n, k, i, j, h, w = _strides(c)
    launch("fold", win, (c, x), *c.shape[:2], n, k, h, w, i, j)
    return x


def total(x: Any, win: Windows) -> Any:
    y = _empty((*x.shape[:2], *win.out), x.dtype)
    launch("total", win, (x, y), *x.shape[:2], *_strides(x))
    return y


def spread(g: Any, win: Windows) -> Any:
    x = _empty((*g.shape[:2], *win.size), g.dtype)
    launch("fold", win, (g, x), *g.shape[:2], *_strides(g), 0, 0)
    return x


def largest(x: Any, win: Windows) -> tuple[Any, Any]:
    first_taps(win)  # every window sees something
    shape = (*x.shape[:2], *win.out)
    y, taps = _empty(shape, x.dtype), _empty(shape, tap_type(win))
    launch("largest", win, (x, y, taps), *x.shape[:2], *_strides(x))
    return y, taps


def put(g: Any, taps: Any, win: Windows) -> Any:
    x = _empty((*g.shape[:2], *win.size), g.dtype)
    dense = [a if a.flags.c_contiguous else a.copy() for a in (g, taps)]
    launch("put", win, (*dense, x), *g.shape[:2])
    return x
