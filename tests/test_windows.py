"""Windows: the NumPy, C++ and CUDA forms of columns, fold and pools give the same bits."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from oracle import oracle

import kernels
from kernels import windows
from kernels.windows import Windows


def geometries(count, seed=0, dilated=True):
    """Windows of all kinds, each of which sees some of the image."""
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < count:
        kernel, stride = rng.integers(1, 4, 2), rng.integers(1, 4, 2)
        dilation = rng.integers(1, 3 if dilated else 2, 2)
        spans = (kernel - 1) * dilation + 1
        before = rng.integers(0, kernel // 2 + 1)
        size = np.maximum(spans - 2 * before, 1) + rng.integers(0, 9, 2)
        out = (size + 2 * before - spans) // stride + 1
        win = Windows(*[tuple(map(int, pair)) for pair in (size, kernel, stride, before, dilation, out)])
        try:
            windows.first_taps(win)
        except ValueError:
            continue
        found.append(win)
    return found


GEOMETRIES = geometries(60)
WIDE = Windows((20, 150), (2, 3), (1, 2), (1, 1), (1, 1), (21, 75))
BIG = Windows((19, 20), (17, 17), (1, 1), (8, 8), (1, 1), (19, 20))


def image(win, dtype="float32", special=True, seed=1):
    """Few different values, so that there are ties; nans and infinities among them."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 4, (2, 3, *win.size)).astype(dtype)
    if special:
        x[rng.random(x.shape) < 0.05] = np.nan
        x[rng.random(x.shape) < 0.1] = -np.inf
    return x


def same(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape
    np.testing.assert_array_equal(a, b)


def every_function(win, dtype):
    """What all functions give on this geometry."""
    rng = np.random.default_rng(2)
    x = image(win, dtype)
    g = rng.standard_normal((2, 3, *win.out)).astype(dtype)
    y, taps = windows.largest(x, win)
    c = rng.standard_normal((2, 3, *win.kernel, *win.out)).astype(dtype)
    return dict(
        columns=windows.columns(x, win),
        columns_first=windows.columns(x, win, "CN"),
        fold=windows.fold(c, win),
        fold_strided=windows.fold(c.transpose(0, 1, 3, 2, 4, 5).copy().transpose(0, 1, 3, 2, 4, 5), win),
        total=windows.total(x, win),
        spread=windows.spread(g, win),
        largest=y,
        taps=taps,
        put=windows.put(g, taps, win),
        total_of_view=windows.total(x.transpose(1, 0, 2, 3), win),
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_compiled_pools_give_numpys_bits(dtype):
    for win in [*GEOMETRIES, WIDE, BIG]:
        results = []
        for machine in ("compiled", "numpy"):
            with kernels.use(machine):
                results.append(every_function(win, dtype))
        for name in results[0]:
            same(results[0][name], results[1][name])


def test_threads_do_not_change_the_bits():
    win = Windows((30, 30), (3, 3), (2, 2), (1, 1), (1, 1), (15, 15))
    x = np.random.default_rng(0).standard_normal((40, 20, 30, 30)).astype(np.float32)
    before, results = kernels.get_num_threads(), []
    try:
        for n in (1, 3):
            kernels.set_num_threads(n)
            y, taps = windows.largest(x, win)
            results.append(
                [y, taps, windows.put(y, taps, win), windows.total(x, win), windows.spread(y, win)]
            )
    finally:
        kernels.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        same(a, b)


@pytest.mark.parametrize("machine", ["compiled", "numpy"])
def test_fold_is_the_transpose_of_columns_and_spread_of_total(machine):
    rng = np.random.default_rng(3)
    with kernels.use(machine):
        for win in GEOMETRIES[:20]:
            x = rng.standard_normal((2, 3, *win.size))
            c, g = rng.standard_normal((2, 3, *win.kernel, *win.out)), rng.standard_normal((2, 3, *win.out))
            assert np.isclose((windows.columns(x, win) * c).sum(), (x * windows.fold(c, win)).sum())
            assert np.isclose((windows.total(x, win) * g).sum(), (x * windows.spread(g, win)).sum())
            y, taps = windows.largest(x, win)
            assert np.isclose((y * g).sum(), (x * windows.put(g, taps, win)).sum())


@pytest.mark.parametrize("machine", ["compiled", "numpy"])
@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
def test_sixteen_bit_images_add_up_in_float32(machine, storage):
    import minigrad as mg

    dtype = mg.tensor([1.0]).to(getattr(mg, storage)).array.dtype
    win = Windows((32, 64), (32, 64), (1, 1), (0, 0), (1, 1), (1, 1))
    with kernels.use(machine), np.errstate(invalid="ignore"):  # as inside every operation
        ones = np.ones((1, 1, 32, 64)).astype(dtype)
        assert windows.total(ones, win).astype(float).item() == 2048  # not 256, where bfloat16 has no + 1
        many = Windows((1, 1), (1, 1), (1, 1), (0, 0), (1, 1), (1, 1))
        assert windows.spread(ones[..., :1, :1], many).dtype == dtype
        c = np.ones((1, 1, 1, 2048, 1, 2)).astype(dtype)
        overlapping = Windows((1, 2049), (1, 2048), (1, 1), (0, 0), (1, 1), (1, 2))
        assert windows.fold(c, overlapping).astype(float).sum() == 4096
        y, taps = windows.largest(image(GEOMETRIES[0]).astype(dtype), GEOMETRIES[0])
        same(y.astype(np.float32), windows.largest(image(GEOMETRIES[0]), GEOMETRIES[0])[0])
        assert windows.put(y, taps, GEOMETRIES[0]).dtype == dtype


def test_a_window_that_sees_only_padding_is_refused():
    win = Windows((2, 2), (2, 2), (1, 1), (1, 1), (3, 3), (1, 1))
    with pytest.raises(ValueError, match="nothing but padding"):
        windows.largest(np.zeros((1, 1, 2, 2), np.float32), win)


# -- CUDA ---------------------------------------------------------------------------------------------------

CUDA = [GEOMETRIES[0], GEOMETRIES[7], WIDE._replace(size=(5, 9), out=(6, 5))]
RUN = """
using namespace minigrad;
extern "C" void run(const char* name, void** p, const long long* n, unsigned blocks, unsigned threads) {
    const std::string which = name;
    launch(Place{blocks, 1}, Place{threads, 1}, [=] {
        S *a = (S*)p[0], *b = (S*)p[1];
        if (which == "columns") columns(a, b, n[0], n[1], n[2], n[3], n[4], n[5], n[6]);
        if (which == "fold") fold(a, b, n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]);
        if (which == "total") total(a, b, n[0], n[1], n[2], n[3], n[4], n[5]);
        if (which == "largest") largest(a, b, (Tap*)p[2], n[0], n[1], n[2], n[3], n[4], n[5]);
        if (which == "put") put(a, (Tap*)p[1], (S*)p[2], n[0], n[1]);
    });
}
"""


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("win", CUDA, ids=str)
def test_the_device_text_gives_numpys_bits(win, long, tmp_path, monkeypatch):
    from kernels.cuda import windows as device

    here = Path(__file__).parent
    parts = [
        "#include <string>",
        (here / "cuda_on_cpu.h").read_text(),
        (Path(kernels.__file__).parent / "preamble.h").read_text(),
        device.kernels(win, "float32", long),
        RUN,
    ]
    (tmp_path / "kernel.cpp").write_text("\n".join(parts))
    command = "c++ -std=c++20 -O1 -w -shared -fPIC -pthread -ffp-contract=off kernel.cpp -o kernel.so"
    done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    library = ctypes.CDLL(str(tmp_path / "kernel.so"))

    def compiled(name, geometry, storage, is_long):
        assert (geometry, storage, is_long) == (win, "float32", False)

        def kernel(grid, block, args):
            arrays = [a for a in args if isinstance(a, np.ndarray)]
            numbers = [int(a) for a in args if not isinstance(a, np.ndarray)]
            pointers = (ctypes.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays])
            written = (ctypes.c_longlong * len(numbers))(*numbers)
            library.run(name.encode(), pointers, written, grid[0], block[0])

        return kernel

    with kernels.use("numpy"):
        expected = every_function(win, "float32")
    monkeypatch.setattr(device, "compiled", compiled)
    monkeypatch.setattr(device, "_empty", np.empty)
    for name in ("columns", "fold", "total", "spread", "largest", "put"):
        monkeypatch.setattr(windows, name, getattr(device, name))
    found = every_function(win, "float32")
    for name, value in expected.items():
        same(found[name], value)


@pytest.mark.oracle
@pytest.mark.parametrize("storage", ["float32", "float64", "float16", "bfloat16"])
def test_the_device_text_compiles_without_doubles_and_atomics(storage):
    oracle("cupy")
    from test_ptx import ptx

    from kernels.cuda import windows as device

    for arch, win, long in ((75, CUDA[0], False), (80, CUDA[1], True), (90, BIG, False)):
        made = ptx(device.preamble() + device.kernels(win, storage, long), arch)
        assert made.count(".entry") == 5 and "atom." not in made and "red." not in made
        assert storage == "float64" or ".f64" not in made


def test_offsets_beyond_32_bits_make_a_kernel_with_long_indices(monkeypatch):
    from kernels.cuda import windows as device

    asked = []

    def compiled(name, win, storage, long):
        asked.append(long)
        return lambda grid, block, args: asked.append(type(args[-1]))

    class Huge:
        """An image of 4 GiB, as far as shape and strides go."""

        dtype, itemsize, size = np.dtype("float32"), 4, 2**30
        shape, strides = (2**20, 1, 32, 32), (4096, 4096, 128, 4)

    monkeypatch.setattr(device, "compiled", compiled)
    monkeypatch.setattr(device, "_empty", lambda shape, dtype: Huge)
    win = Windows((32, 32), (2, 2), (1, 1), (0, 0), (1, 1), (31, 31))
    device.total(Huge, win)
    Huge.shape = (2**22, 1, 32, 32)
    device.total(Huge, win)
    assert asked == [False, np.int32, True, np.int64]
