"""cuDNN by ctypes: what it is told is the convolution that torch computes, and columns serve where it cannot.

The library is a fake (tests/fake_cupy/cudnn.py): real C functions that decode the descriptors they were given
and convolve what lies at the addresses, so a wrong order, stride, pad or scalar gives wrong numbers or a
status. Where NVIDIA's wheel is installed, its own descriptors are asked too, which needs no GPU.
"""

import ctypes
import itertools
import subprocess
import sys
import types
import warnings
from ctypes import byref, c_int, c_void_p

import fake_cupy
import numpy as np
import pytest
from fake_cupy import cudnn
from oracle import oracle
from test_conv import some_calls

import minigrad as mg
from kernels.convolution import Cudnn
from kernels.cuda import dnn, graph, libcudnn
from kernels.windows import Windows
from minigrad import nn, optim
from minigrad.nn import functional as F
from models import ResNet9, SmallCNN

TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}
LAUNCHES = {"convolution", "its image", "its weight"}

# function, options, image, weight
CALLS = [
    ("conv2d", dict(), (2, 3, 7, 6), (4, 3, 3, 2)),
    ("conv2d", dict(stride=(1, 3)), (2, 3, 7, 6), (4, 3, 3, 2)),
    ("conv2d", dict(stride=3, padding=(2, 1)), (2, 3, 7, 6), (4, 3, 3, 2)),
    ("conv2d", dict(dilation=(3, 1), stride=2, padding=2), (2, 3, 7, 6), (4, 3, 2, 3)),
    ("conv2d", dict(groups=3, stride=2, padding=1), (2, 3, 7, 6), (6, 1, 3, 2)),
    ("conv2d", dict(groups=2, dilation=2, padding=(1, 0)), (3, 4, 6, 7), (6, 2, 2, 3)),
    ("conv2d", dict(padding="same", dilation=(1, 2)), (2, 3, 7, 6), (4, 3, 3, 3)),
    ("conv2d", dict(), (2, 3, 7, 6), (5, 3, 1, 1)),
    ("conv2d", dict(stride=2, padding=1), (2, 3, 7, 6), (5, 3, 1, 1)),
    ("conv2d", dict(padding=4), (1, 2, 3, 2), (2, 2, 2, 2)),
    ("conv1d", dict(stride=2, padding=1, dilation=2), (2, 4, 9), (6, 4, 3)),
    ("conv_transpose2d", dict(stride=2, padding=1, output_padding=(1, 0)), (2, 4, 4, 3), (4, 3, 3, 2)),
    ("conv_transpose2d", dict(groups=2, dilation=2, padding=1), (2, 4, 4, 3), (4, 3, 3, 2)),
    ("conv_transpose1d", dict(stride=3, output_padding=2), (2, 3, 5), (3, 2, 4)),
]
IDS = [f"{name} {options} {weight}" for name, options, _, weight in CALLS]


@pytest.fixture
def device(monkeypatch):
    """A fake GPU with cuDNN switched on; whatever the library refuses is an error."""
    monkeypatch.setattr(Cudnn, "enabled", True)
    monkeypatch.setattr(Cudnn, "allow_tf32", True)
    cudnn.refusals.clear()
    with fake_cupy.installed() as device:
        yield device
        assert cudnn.refusals == []


@pytest.fixture
def precision():
    yield mg.set_float32_matmul_precision
    mg.set_float32_matmul_precision("highest")


def material(*shapes, dtype="float64", seed=0):
    """Tensors of small numbers, at float16's precision, so that every type has the same."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype("f2").astype("f8") for shape in shapes]


def on_device(arrays, dtype="float64"):
    return [mg.tensor(a).to(mg.backend.as_dtype(dtype)).to("cuda").requires_grad_() for a in arrays]


def host(tensor):
    return tensor.detach().cpu().to(mg.float64).numpy()


def by_columns(device):
    """Whether columns were made."""
    return any(name in device.launches for name in ("columns", "fold"))


def close(found, wanted, dtype):
    scale = max(1.0, np.abs(wanted).max(initial=0))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize(("name", "options", "image", "weight"), CALLS, ids=IDS)
def test_output_and_gradients_are_torchs(device, name, options, image, weight, dtype):
    torch = oracle("torch")
    outputs = weight[1] * options.get("groups", 1) if "transpose" in name else weight[0]
    arrays = material(image, weight, (outputs,))
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    wanted = getattr(torch.nn.functional, name)(*theirs, **options)
    (g,) = material(tuple(wanted.shape), seed=1)
    wanted.backward(torch.tensor(g))
    ours = on_device(arrays, dtype)
    found = getattr(F, name)(*ours, **options)
    found.backward(on_device([g], dtype)[0].detach())
    assert found.dtype == ours[0].dtype and set(device.launches) >= LAUNCHES and not by_columns(device)
    close(host(found), wanted.detach().numpy(), dtype)
    for mine, other in zip(ours, theirs, strict=True):
        close(host(mine.grad), other.grad.numpy(), dtype)


@pytest.mark.parametrize(("name", "options", "image", "weight"), CALLS, ids=IDS)
def test_gradients_of_gradients_are_torchs(device, name, options, image, weight):
    torch = oracle("torch")
    arrays = material(image, weight)
    found = []
    for library, tensors in ((mg, on_device(arrays)), (torch, [torch.tensor(a) for a in arrays])):
        tensors = [t.detach().requires_grad_() for t in tensors]
        y = getattr(library.nn.functional, name)(*tensors, **options)
        grad = mg.grad if library is mg else torch.autograd.grad
        first = grad((y * y * y).sum(), tensors, create_graph=True)
        second = grad(sum((g * g).sum() for g in first), tensors)
        found.append([host(t) if library is mg else t.numpy() for t in second])
    assert device.launches["convolution"] >= 2 and not by_columns(device)
    for mine, theirs in zip(*found, strict=True):
        close(mine, theirs, "float64")


@pytest.mark.parametrize("activation", [None, "relu"])
def test_it_equals_columns_on_whole_numbers(device, activation):
    """Sums of small whole numbers are exact in any order, so the two agree to the bit, bias and max too."""
    for seed, shape, weight, options in some_calls(40):
        rng = np.random.default_rng(seed)
        arrays = [rng.integers(-4, 5, s).astype("f4") for s in (shape, weight, weight[:1])]
        found = []
        for enabled in (True, False):
            mg.backends.cudnn.enabled = enabled
            tensors = on_device(arrays, "float32")
            y = F.conv2d(*tensors, activation=activation, **options)
            (y * 3).sum().backward()
            found.append([host(t) for t in (y, *(t.grad for t in tensors))])
        for a, b in zip(*found, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"{shape} {weight} {options}")


# ---- what it is told


def convolve(shape=(2, 3, 5, 5), weight=(4, 3, 3, 3), dtype="float32", backward=True, **options):
    """The output of a convolution on the device, after its backward pass."""
    x, w = on_device(material(shape, weight), dtype)
    y = F.conv2d(x, w, **options)
    if backward:
        y.sum().backward()
    return y


def test_it_is_off_until_switched_on(monkeypatch):
    code = "import minigrad as mg, sys; mg.nn; print(mg.backends.cudnn.enabled, *sys.modules)"
    enabled, *loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    ).stdout.split()
    assert enabled == "False" and not {"kernels.cuda.dnn", "kernels.cuda.libcudnn", "cupy"} & set(loaded)
    with fake_cupy.installed() as device:
        convolve()
        assert device.cudnn.calls == [] and by_columns(device)
    assert mg.backends.cudnn.why() == "columns serve, not cuDNN: minigrad.backends.cudnn.enabled is False"


def test_a_product_is_one_launch_and_a_plan_is_made_once(device):
    x, w = on_device(material((2, 3, 5, 5), (4, 3, 3, 3)), "float32")
    with mg.no_grad():
        F.conv2d(x, w, padding=1)
        made = len(device.cudnn.objects)
        with device.counting() as c:
            F.conv2d(x, w, padding=1)
    assert c.launches == {"convolution": 1} and c.host_reads == [] == c.uploads
    assert len(device.cudnn.objects) == made == 4  # image, weight, output, convolution
    assert len(device.cudnn.called("cudnnCreate")) == 1
    assert len(device.cudnn.called("cudnnGetConvolutionForwardAlgorithm_v7")) == 1


def test_the_algorithm_is_the_first_that_is_deterministic_and_fits(device):
    convolve()
    for stem, (_, algorithms) in cudnn.WAYS.items():
        (chosen,) = device.cudnn.called(f"cudnnConvolution{stem}")
        assert chosen[7] == 5 and chosen[9] == 1000  # 1 failed, 0 adds by atomics, 4 needs a terabyte
        (asked,) = device.cudnn.called(f"cudnnGetConvolution{stem}Algorithm_v7")
        assert asked[5] == algorithms
    assert not by_columns(device)


def test_without_workspace_no_memory_is_taken(device):
    device.cudnn.proposed = [(1, 0, 0, 1)]
    convolve(backward=False)
    ((*_, room, size, _, _, _),) = device.cudnn.called("cudnnConvolutionForward")
    assert (room, size) == (None, 0)


@pytest.mark.parametrize("math", [0, 3])
def test_no_deterministic_algorithm_leaves_it_to_columns(device, math):
    device.cudnn.proposed = [(0, 0, 0, 0), (4, 0, 1 << 40, 1)]
    y = convolve()
    mg.backends.cudnn.enabled = False
    assert by_columns(device) and (host(y) == host(convolve())).all()
    mg.backends.cudnn.enabled = True
    assert "of 2 algorithms none is deterministic" in mg.backends.cudnn.why()
    assert device.cudnn.objects == {}  # what was described is destroyed


def test_float32_is_float32_until_less_is_asked_for(device, precision):
    """CUDNN_FMA_MATH (3) forbids TF32; CUDNN_DEFAULT_MATH (0) permits it."""
    found = {}
    for name, allowed in itertools.product(("highest", "high", "medium"), (True, False)):
        precision(name)
        mg.backends.cudnn.allow_tf32 = allowed
        device.cudnn.maths.clear()
        convolve()
        found[name, allowed] = set(device.cudnn.maths)
    assert found == {
        ("highest", True): {3}, ("highest", False): {3},
        ("high", True): {0}, ("high", False): {3}, ("medium", True): {0}, ("medium", False): {3},
    }  # fmt: skip


def test_float32_is_never_multiplied_in_float16(device, precision):
    precision("medium")
    device.cudnn.proposed, device.cudnn.converting = [(1, 0, 0, 1), (5, 0, 0, 1)], {1}
    convolve()
    assert [args[7] for args in device.cudnn.called("cudnnConvolutionForward")] == [5]
    assert set(device.cudnn.maths) == {0}


def test_other_types_and_what_they_are_added_up_in(device, precision):
    precision("high")
    found = {}
    for dtype in ("float64", "float16", "bfloat16"):
        device.cudnn.maths.clear()
        convolve(dtype=dtype)
        *_, sums = device.cudnn.called("cudnnSetConvolution2dDescriptor")[-1]
        found[dtype] = (set(device.cudnn.maths), sums)
    assert found == {"float64": ({0}, 1), "float16": ({1}, 0), "bfloat16": ({1}, 0)}


def test_it_works_on_the_current_stream(device):
    import cupy

    with cupy.cuda.Stream(non_blocking=True) as stream:
        convolve()
        assert device.cudnn.stream == stream.ptr != 0
    convolve()
    assert device.cudnn.stream == 0


def test_views_and_odd_addresses_are_copied_first(device):
    x, w = on_device(material((2, 3, 5, 6), (4, 3, 3, 2)), "float32")
    wanted = host(F.conv2d(x, w))
    with mg.no_grad():
        turned = x.transpose(2, 3).contiguous().transpose(2, 3)
        flat = mg.zeros(x.numel() + 1).to("cuda")
        flat[1:] = x.reshape(-1)
        odd = flat[1:].reshape(x.shape)
        assert odd.array.data.ptr % 16 and not turned.array.flags.c_contiguous
        for view in (turned, odd):
            np.testing.assert_array_equal(host(F.conv2d(view, w)), wanted)
    assert not by_columns(device)


def test_memory_that_it_cannot_write_to_is_left_to_columns(device):
    x, w = on_device(material((2, 3, 5, 5), (4, 3, 3, 3)), "float32")
    win = Windows((5, 5), (3, 3), (1, 1), (0, 0), (1, 1), (3, 3))
    spread = mg.zeros(2, 4, 3, 6).to("cuda").array[..., ::2]
    odd = mg.zeros(73).to("cuda").array[1:].reshape(2, 4, 3, 3)
    for out in (spread, odd):
        assert dnn.product("forward", x.array, w.array, out, win, 1) is None
    assert device.cudnn.calls == []


def test_a_weights_gradient_lands_in_its_arena(device):
    layer = nn.Conv2d(3, 4, 3, bias=False).to("cuda")
    optimizer = optim.SGD(layer.parameters(), lr=0.1)
    layer(mg.ones(2, 3, 5, 5, device="cuda")).sum().backward()
    (last,) = device.cudnn.called("cudnnConvolutionBackwardFilter")
    assert last[-1] == layer.weight.grad.array.data.ptr
    assert layer.weight.grad.array.base is not None
    optimizer.step()


def test_plans_of_many_shapes_do_not_pile_up(device, monkeypatch):
    monkeypatch.setattr(dnn, "PLANS", 3)
    for k in range(8):
        convolve((1, 3, 5 + k, 5), backward=False)
        assert len(device.cudnn.objects) <= 3 * 4
    assert len(dnn.handle().plans) == 2


# ---- where columns serve


@pytest.mark.parametrize(
    ("options", "weight"),
    [(dict(padding="same"), (4, 3, 2, 2)), (dict(padding="same", dilation=(3, 1)), (4, 3, 4, 3))],
)
def test_more_padding_behind_than_before_is_left_to_columns(device, options, weight):
    torch = oracle("torch")
    x, w = arrays = material((2, 3, 7, 6), weight)
    y = F.conv2d(*on_device(arrays), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch: it copies, to pad more behind
        wanted = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(w), **options)
    close(host(y), wanted.numpy(), "float64")
    y.sum().backward()
    assert by_columns(device) and not LAUNCHES & set(device.launches)


@pytest.mark.parametrize("shape", [(0, 3, 5, 5), (2, 0, 5, 5)])
def test_empty_batches_never_reach_it(device, shape):
    y = convolve(shape, (4, shape[1], 3, 3))  # and its gradients
    assert y.shape == (shape[0], 4, 3, 3) and not host(y).any()
    assert device.cudnn.calls == []


@pytest.mark.parametrize(
    "name",
    [
        "cudnnSetTensor4dDescriptor",
        "cudnnSetConvolutionMathType",
        "cudnnGetConvolutionForwardAlgorithm_v7",
        "cudnnConvolutionForward",
    ],
)
def test_what_it_does_not_support_is_left_to_columns_for_good(device, name):
    device.cudnn.unsupported.add(name)
    first = convolve(backward=False)
    assert by_columns(device) and "convolution" not in device.launches
    said = mg.backends.cudnn.why()
    assert f"{name}: cuDNN status 3002, CUDNN_STATUS_NOT_SUPPORTED_SHAPE" in said
    assert "forward of float32 x [2, 3, 5, 5], w [4, 3, 3, 3]" in said
    device.cudnn.unsupported.clear()
    before = len(device.cudnn.calls)
    again = convolve(backward=False)  # is not asked again
    assert len(device.cudnn.calls) == before and (host(first) == host(again)).all()
    convolve((3, 3, 5, 5), backward=False)
    assert "convolution" in device.launches  # others are


def test_more_elements_than_it_can_count_are_left_to_columns(device, monkeypatch):
    monkeypatch.setattr(dnn, "ELEMENTS", 149)
    convolve(backward=False)
    assert by_columns(device) and "at most 149 elements" in mg.backends.cudnn.why()


def test_a_failure_is_an_error_that_names_function_status_and_shapes(device):
    device.cudnn.failing.add("cudnnConvolutionBackwardFilter")
    x, w = on_device(material((2, 4, 5, 6), (6, 2, 3, 3)), "float16")
    y = F.conv2d(x, w, stride=2, padding=1, groups=2)
    with pytest.raises(RuntimeError) as caught:
        y.sum().backward()
    assert str(caught.value) == (
        "cudnnConvolutionBackwardFilter: cuDNN status 5000, CUDNN_STATUS_EXECUTION_FAILED (weight of float16 "
        "x [2, 4, 5, 6], w [6, 2, 3, 3], y [2, 6, 3, 3], stride (2, 2), padding (1, 1), dilation (1, 1), "
        "groups 2)"
    )


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        (False, "the arrays brought none"),
        (cudnn.FakeCudnn(version=8902), "is version 8902, and 90000 is the first"),
        (cudnn.FakeCudnn(cuda=12080), "is made for CUDA 12, CuPy for CUDA 13; pip install nvidia-cudnn-cu13"),
        (cudnn.FakeCudnn(starts=False), "cudnnCreate: cuDNN status 1001, CUDNN_STATUS_NOT_INITIALIZED"),
    ],
)
def test_without_a_library_that_fits_columns_serve_and_why_says_so(monkeypatch, library, reason):
    monkeypatch.setattr(Cudnn, "enabled", True)
    with fake_cupy.installed(cudnn=library) as device:
        convolve()
        assert by_columns(device) and not LAUNCHES & set(device.launches)
        said = mg.backends.cudnn.why()
        assert said.startswith("columns serve, not cuDNN: ") and reason in said
        assert mg.backends.cudnn.version() is None and not mg.backends.cudnn.is_available()


def test_a_library_without_a_function_is_none(monkeypatch):
    monkeypatch.setattr(Cudnn, "enabled", True)
    library = cudnn.FakeCudnn()
    del library.cudnnConvolutionBackwardData
    with fake_cupy.installed(cudnn=library) as device:
        convolve()
        assert by_columns(device) and "cudnnConvolutionBackwardData" in mg.backends.cudnn.why()


def test_it_is_looked_for_where_nvidias_wheels_and_systems_have_it(monkeypatch, tmp_path):
    """Every place that was tried stands in the reason, and the cure."""

    def refuse(name):
        raise OSError(f"{name}: not here")

    with fake_cupy.installed():
        import cupy

        finder = types.ModuleType("cuda.pathfinder")
        finder.load_nvidia_dynamic_lib = lambda name: types.SimpleNamespace(abs_path=f"/wheel/{name}.so")
        monkeypatch.setitem(sys.modules, "cuda", types.ModuleType("cuda"))
        monkeypatch.setitem(sys.modules, "cuda.pathfinder", finder)
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "libcudnn.so.9").touch()
        spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
        monkeypatch.setattr(libcudnn.importlib.util, "find_spec", lambda name: spec)
        assert list(libcudnn._candidates()) == [
            "/wheel/cudnn.so", str(tmp_path / "lib" / "libcudnn.so.9"),
            "libcudnn.so.9", "cudnn64_9.dll", "libcudnn.so",
        ]  # fmt: skip
        monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
        monkeypatch.setattr(libcudnn.importlib.util, "find_spec", lambda name: None)
        assert list(libcudnn._candidates()) == ["libcudnn.so.9", "cudnn64_9.dll", "libcudnn.so"]
        monkeypatch.delattr(cupy.ndarray, "__minigrad_cudnn__")
        monkeypatch.setattr(libcudnn.ctypes, "CDLL", refuse)
        found, said = libcudnn._open(cupy)
        assert found is None and "libcudnn.so.9: not here; cudnn64_9.dll: not here" in said
        assert said.endswith("to have it: pip install nvidia-cudnn-cu13")


# ---- the switches


def test_the_switches_have_torchs_names_and_say_what_they_cannot(monkeypatch):
    torch = oracle("torch")
    monkeypatch.setattr(Cudnn, "enabled", False)
    switches = mg.backends.cudnn
    for name in ("enabled", "allow_tf32", "deterministic", "benchmark", "is_available", "version", "flags"):
        assert hasattr(torch.backends.cudnn, name) and hasattr(switches, name)
    assert (switches.enabled, switches.allow_tf32) == (False, True)
    assert (switches.deterministic, switches.benchmark) == (True, False)
    switches.deterministic, switches.benchmark = True, False
    with pytest.raises(ValueError, match=r"deterministic: False is not supported, only True: the same seed"):
        switches.deterministic = False
    with pytest.raises(
        ValueError, match=r"benchmark: True is not supported, only False: algorithms chosen by"
    ):
        switches.benchmark = True
    for name in ("enabled", "allow_tf32", "deterministic", "benchmark"):
        with pytest.raises(TypeError, match=rf"backends.cudnn.{name}: 1 is neither True nor False"):
            setattr(switches, name, 1)
    with switches.flags(enabled=True, allow_tf32=False):
        assert (switches.enabled, switches.allow_tf32) == (True, False)
    assert (switches.enabled, switches.allow_tf32) == (False, True)
    with pytest.raises(ValueError, match="benchmark"), switches.flags(enabled=True, benchmark=True):
        pass
    assert not switches.enabled


def test_it_says_whether_it_is_there(device):
    assert mg.backends.cudnn.is_available() and mg.backends.cudnn.version() == 92800
    assert mg.backends.cudnn.why() == "cuDNN 92800 convolves: the arrays brought it"


# ---- captured steps


def trained(capture, steps=8, switch=(), name="enabled"):
    """(losses, weights, the step) of a small network; the switch is turned before the steps named."""
    mg.manual_seed(1)
    model = SmallCNN(1, 8, 5, (3, 4), dropout=0.2).to("cuda")
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
    rng = np.random.default_rng(2)
    x = mg.tensor(rng.standard_normal((64, 1, 8, 8)).astype("f4")).to("cuda")
    y = mg.tensor(rng.integers(0, 5, 64)).to("cuda")

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    run = mg.graph.capture(step) if capture else step
    losses = []
    for k in range(steps):
        if k in switch:
            setattr(mg.backends.cudnn, name, not getattr(mg.backends.cudnn, name))
        losses.append(run(x[8 * (k % 8) : 8 * (k % 8) + 8], y[8 * (k % 8) : 8 * (k % 8) + 8]))
    return [float(v) for v in losses], [host(t) for t in model.state_dict().values()], run


def test_captured_steps_are_the_eager_ones_bit_for_bit(device):
    losses, weights, _ = trained(capture=False)
    assert device.launches["its weight"] > 0 and not by_columns(device)
    captured, found, run = trained(capture=True)
    assert run.why == "" and run.graphs == 1 and device.launches["graph"] == 5
    assert captured == losses and all(np.array_equal(a, b) for a, b in zip(weights, found))


@pytest.mark.parametrize("name", ["enabled", "allow_tf32"])
def test_switching_over_makes_another_graph(device, name):
    losses, weights, _ = trained(False, 16, (5, 10), name)
    captured, found, run = trained(True, 16, (5, 10), name)
    assert run.why == "" and run.graphs == 2
    assert captured == losses and all(np.array_equal(a, b) for a, b in zip(weights, found))


def test_a_step_of_resnet_makes_no_columns_and_no_copies(device):
    """Three products a convolution (the images need no gradient), and nothing around them."""
    model, rng = ResNet9().to("cuda"), np.random.default_rng(0)
    optimizer = optim.AdamW(model.parameters())
    x = mg.tensor(rng.standard_normal((2, 3, 32, 32)).astype("f4")).to("cuda")
    y = mg.tensor(np.array([1, 2])).to("cuda")
    counts = {}
    for enabled in (True, False):
        mg.backends.cudnn.enabled = enabled
        for _ in range(2):
            optimizer.zero_grad()
            with device.counting() as counts[enabled]:
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
        assert counts[enabled].host_reads == []
    launches = counts[True].launches
    assert {name: launches[name] for name in LAUNCHES} == {"convolution": 8, "its image": 7, "its weight": 8}
    assert not {"columns", "fold", "copy"} & set(launches)
    assert counts[False].launched - counts[True].launched >= 50


def test_a_shape_that_warm_up_did_not_have_is_refused_in_a_capture(device):
    class Capturing:
        capturing = True

        def refuse(self, what):
            raise RuntimeError(what)

    small, large, w = on_device(material((2, 3, 5, 5), (1, 3, 9, 9), (4, 3, 3, 3)), "float32")
    with graph.recorded_by(Capturing()), pytest.raises(RuntimeError, match="its first convolution on this"):
        F.conv2d(small, w)
    F.conv2d(small, w)
    with (
        graph.recorded_by(Capturing()),
        pytest.raises(RuntimeError, match=r"did not have: forward .* 9, 9\]"),
    ):
        F.conv2d(large, w)
    with graph.recorded_by(Capturing()):
        F.conv2d(small, w)  # it is there


# ---- NVIDIA's own library


def real():
    """libcudnn, where it is installed: its descriptors need no GPU."""
    for name in libcudnn._candidates():
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    pytest.skip("libcudnn is not installed (pip install nvidia-cudnn-cu13)")


def test_the_real_library_understands_the_descriptors(monkeypatch):
    lib = real()
    lib.cudnnGetCudartVersion.restype = ctypes.c_size_t
    version = lib.cudnnGetCudartVersion()
    runtime = types.SimpleNamespace(runtimeGetVersion=lambda: version)
    cupy = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime))
    assert "convolves" in libcudnn._fitting(lib, cupy, "the real one")  # it has every function
    lib.cudnnGetConvolutionNdForwardOutputDim.argtypes = [c_void_p, c_void_p, c_void_p, c_int, c_void_p]
    assert ctypes.sizeof(libcudnn.Algorithm) == ctypes.sizeof(cudnn.Performance) == 48
    described = []
    monkeypatch.setattr(dnn.Handle, "__init__", lambda self: None)
    monkeypatch.setattr(
        dnn.Handle, "_chosen", lambda self, case, way, given, conv: described.append(given) or (0, 0)
    )
    its = dnn.Handle()
    its.lib = lib
    for kind, (_, shape, weight, options) in itertools.product(dnn.TYPES, some_calls(30)):
        pairs = [options[name] for name in ("stride", "padding", "dilation")]
        size, kernel = shape[2:], weight[2:]
        out = tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(size, kernel, *pairs, strict=True)
        )
        win = Windows(size, kernel, *pairs, out)
        case = dnn.Case("forward", kind, shape[0], shape[1], weight[0], win, options["groups"], dnn.FMA_MATH)
        held = []
        its._made(case, held)
        x, w, conv, _ = described[-1]
        found, math = (c_int * 4)(), c_int()
        assert lib.cudnnGetConvolutionNdForwardOutputDim(conv, x, w, 4, found) == 0
        assert tuple(found) == case.shapes["y"] == (shape[0], weight[0], *out)
        assert lib.cudnnGetConvolutionMathType(conv, byref(math)) == 0 and math.value == dnn.FMA_MATH
        its._destroy(held)
    place = c_void_p()
    assert lib.cudnnCreateTensorDescriptor(byref(place)) == 0
    with pytest.raises(dnn.NotSupported, match="cudnnSetTensor4dDescriptor: cuDNN status 3000"):
        status = lib.cudnnSetTensor4dDescriptor(place, dnn.NCHW, 0, 1, 2, 2**16, 2**15 - 1)
        its.check("cudnnSetTensor4dDescriptor", status)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_on_a_gpu_it_agrees_with_columns_and_repeats_its_bits(dtype):
    if not mg.backends.cudnn.is_available():
        pytest.skip(libcudnn.why())
    for name, options, image, weight in [
        *CALLS,
        ("conv2d", dict(padding=1), (16, 32, 28, 28), (64, 32, 3, 3)),
        ("conv2d", dict(padding=1, stride=2), (8, 64, 16, 16), (128, 64, 3, 3)),
    ]:
        found = []
        for enabled in (True, True, False):
            with mg.backends.cudnn.flags(enabled=enabled):
                x, w = on_device(material(image, weight), dtype)
                y = getattr(F, name)(x, w, **options)
                y.backward(on_device(material(tuple(y.shape), seed=1), dtype)[0].detach())
                found.append([host(t) for t in (y, x.grad, w.grad)])
        for first, again, columns in zip(*found, strict=True):
            np.testing.assert_array_equal(first, again)
            close(first, columns, dtype)
