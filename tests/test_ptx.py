"""The CUDA of every kernel compiles for every architecture, has no doubles, and touches memory as promised.

Without a GPU: the very source CuPy would compile goes through NVRTC, and rows kernels run on the CPU, thread
by thread (cuda_on_cpu.h).
"""

import ctypes
import importlib
import pkgutil
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from oracle import oracle

import kernels
from kernels import Elementwise, Rows, layers, rules
from kernels.dtypes import compute_type
from kernels.rules import descent

cupy = oracle("cupy")
nvrtc = cupy.cuda.nvrtc
pytestmark = pytest.mark.oracle

ARCHITECTURES = (75, 80, 90)
STORAGE = ("float32", "float16", "bfloat16")


def include_folders():
    """CuPy's headers, and CUDA's where a package brought them."""
    own = Path(cupy.__file__).parent / "_core" / "include"
    found = [str(own), *(str(p) for p in (own / "cupy" / "_cccl").iterdir())]
    root = Path(cupy.__file__).parent.parent / "nvidia"
    found += [str(p.parent) for p in root.glob("**/include/cuda_fp16.h")]
    return found


def compiled(source, *options):
    """The PTX of a source and the compiler's log; a failed compilation shows NVRTC's own words."""
    program = nvrtc.createProgram(source, "kernel.cu", (), ())
    options = ["--std=c++17", *options, *(f"-I{p}" for p in include_folders())]
    try:
        nvrtc.compileProgram(program, tuple(options))
        made, log = nvrtc.getPTX(program), nvrtc.getProgramLog(program)
    except nvrtc.NVRTCError as error:
        raise AssertionError(nvrtc.getProgramLog(program)) from error
    finally:
        nvrtc.destroyProgram(program)
    return made.decode() if isinstance(made, bytes) else made, log


def ptx(source, arch=80):
    return compiled(source, f"--gpu-architecture=compute_{arch}")[0]


def source(kernel, storage, flags=(), guarded=False):
    from kernels.cuda.source import cuda_source

    free = dict.fromkeys(kernel.letters - {"S", "T"}, "int64")
    return cuda_source(kernel, free | dict(S=storage), flags, guarded)


def every_kernel(all_flags=False):
    """All kernels of the package and of minigrad, with their flag sets: none, each, and all; or only all."""
    for module in pkgutil.walk_packages(kernels.__path__, "kernels."):
        importlib.import_module(module.name)  # texts that no other test may have loaded

    for kernel in sorted(kernels.registry.values(), key=lambda k: k.name):
        sets = {kernel.flags} if all_flags else {(), *((f,) for f in kernel.flags), kernel.flags}
        for flags in sorted(sets):
            yield pytest.param(kernel, flags, id="-".join([kernel.name, *flags]))


def wants_double(kernel):
    """Whether a text says itself that it computes in double."""
    concrete = {p.type for p in kernel.parameters}
    return "float64" in concrete or "float64" in kernel.body


@pytest.mark.parametrize(("kernel", "flags"), list(every_kernel()))
def test_every_text_compiles_without_doubles(kernel, flags):
    made = ptx(source(kernel, "float32", flags))
    if not wants_double(kernel):
        assert made.count(".f64") == 0


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.parametrize(
    "kernel", [rules.ADAM, rules.SGD, layers.SOFTMAX, layers.BIAS_RELU_BACKWARD], ids=lambda k: k.name
)
def test_every_storage_and_architecture_compiles(kernel, storage, arch):
    made = ptx(source(kernel, storage, kernel.flags), arch)
    assert f".target sm_{arch}" in made and made.count(".f64") == 0


def memory(made):
    """Loads and stores of array elements in the loop of an elementwise kernel; scalars are loaded as well."""
    return len(re.findall(r"\bld\.global", made)), len(re.findall(r"\bst\.global", made))


@pytest.mark.parametrize(
    ("kernel", "flags", "loads", "stores"),
    [
        (rules.ADAM, ("decoupled_weight_decay",), 4, 3),
        (rules.ADAM, ("amsgrad",), 5, 4),
        (rules.SGD, (), 2, 1),
        (rules.SGD, ("momentum", "nesterov"), 3, 2),
        (rules.SGD, ("momentum", "velocity", "look_ahead", "decoupled_weight_decay"), 3, 2),
        (rules.LOOK_AHEAD, (), 2, 1),
        (rules.SGD_HD, ("momentum", "nesterov"), 4, 3),
        (rules.ADAM_HD, (), 5, 4),
        (rules.MIRROR, (), 2, 1),
        (rules.MIRROR, ("hypentropy",), 2, 1),
        (rules.MIRROR, ("burg",), 2, 1),
        (rules.PERTURBED_DESCENT, (), 4, 1),
        (rules.GRADIENT_NOISE, (), 6, 1),
        (rules.ADAM, ("amsgrad", "corrected_max"), 5, 4),
        (rules.ADAMAX, (), 4, 3),
        (rules.NADAM, (), 4, 3),
        (rules.RADAM, (), 4, 3),
        (rules.ASGD, (), 3, 2),
        (rules.RPROP, (), 4, 3),
        (rules.ADAGRAD, (), 3, 2),
        (rules.ADADELTA, (), 4, 3),
        (rules.RMSPROP, (), 3, 2),
        (rules.RMSPROP, ("centered",), 4, 3),
        (rules.RMSPROP, ("centered", "eps_in_sqrt", "momentum"), 5, 4),
        (rules.LAMB, (), 3, 2),
        (rules.MATRIX_GRADIENT, ("decay",), 2, 1),
        (rules.MATRIX_STEP, ("momentum",), 3, 2),
        (rules.SHAMPOO_GRAFT, ("adam",), 3, 3),
        (rules.MUON, ("nesterov",), 2, 2),
        (rules.SOAP, (), 4, 2),
        (rules.SOAP_DIRECTION, (), 2, 1),
        (rules.LOOKAHEAD, (), 2, 2),
        (rules.SAM, ("adaptive",), 3, 1),  # the norm is raw
        (rules.LION, (), 3, 2),
        (rules.ADAN, ("maximize", "no_prox"), 6, 5),
        (rules.ADEMAMIX, (), 5, 4),
        (rules.SGD_SCHEDULE_FREE, (), 3, 2),
        (rules.ADAMW_SCHEDULE_FREE, (), 4, 3),
        (rules.SCHEDULE_FREE_EVAL, (), 2, 2),
        (rules.SCHEDULE_FREE_TRAIN, (), 3, 1),
        (rules.PRODIGY, ("decouple",), 5, 1),  # two of them raw: d, rate
        (rules.SOPHIA, ("gauss_newton",), 4, 2),
        (rules.SOPHIA_HESSIAN, (), 3, 1),
        (rules.KFAC, ("momentum",), 4, 2),  # nu is raw
        (rules.KFAC_DIAGONAL, (), 2, 1),
        (layers.BIAS_RELU, (), 2, 1),
    ],
)
def test_every_array_is_loaded_once_and_stored_once(kernel, flags, loads, stores):
    made = ptx(source(kernel, "float32", flags))
    assert memory(made) == (loads + len(kernel.variant(flags).scalars), stores)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("kernel", "flags"), list(every_kernel(all_flags=True)))
def test_no_kernel_spills_or_needs_more_than_64_registers(kernel, flags, arch):
    if wants_double(kernel):
        pytest.skip("computes in double")
    _, log = compiled(source(kernel, "float32", flags), f"--gpu-architecture=sm_{arch}", "--ptxas-options=-v")
    assert "0 bytes spill stores, 0 bytes spill loads" in log, log
    assert int(re.search(r"Used (\d+) registers", log).group(1)) <= 64, log


def test_scalars_come_from_an_array_so_a_new_learning_rate_compiles_nothing():
    text = source(rules.ADAM, "float32", ("decoupled_weight_decay",))
    (signature,) = re.findall(r"__global__ void mg_adam\w*\((.*?)\)", text)
    declared = re.findall(r"(CArray|CIndexer|float|double)(?:<[^>]*>)? (\w+)", signature)
    arrays = ["_raw__g", "hp", "_raw__p", "_raw__exp_avg", "_raw__exp_avg_sq"]
    assert declared == [*(("CArray", a) for a in arrays), ("CIndexer", "_ind")], signature
    assert "const T lr = hp[0];" in text


def test_compiler_messages_point_to_the_line_of_the_rule_book():
    broken = source(rules.SGD, "float32").replace("p = x - lr * d;", "p = x - lr * dd;")
    with pytest.raises(AssertionError) as caught:
        ptx(broken)
    line = int(
        re.search(r"kernels/rules/descent\.py\((\d+)\): error: identifier \"dd\"", str(caught.value)).group(1)
    )
    assert "p = x - lr * d;" in Path(descent.__file__).read_text().split("\n")[line - 1]


@pytest.mark.parametrize("name", sorted(rules.__all__))
def test_every_rule_compiles_with_a_guard_round_its_text(name):
    """A call with `unless`: what a step does where GradScaler may leave it out."""
    kernel = getattr(rules, name)
    text = source(kernel, "float32", kernel.flags, guarded=True)
    assert len(re.findall(r"_unless(\[0\])? == 0\.0f", text)) == 1
    plain = source(kernel, "float32", kernel.flags)
    assert memory(ptx(text))[1] == memory(ptx(plain))[1] and "_unless" not in plain


# -- the device text, executed -----------------------------------------------------------------------------

RUN = """
extern "C" void run(void** p, unsigned blocks, unsigned x, unsigned y, long long n, long long rows) {{
    launch(Place{{blocks, 1}}, Place{{x, y}}, [=] {{ minigrad::{name}({arguments}, n, rows); }});
}}
"""


def on_cpu(kernel, arrays, scalars, folder, flags=(), unless=None):
    """Runs the CUDA source of a rows kernel on the CPU; arrays by name, outputs written in place."""
    from kernels.cuda.rows import grid, kernel_name, rows_kernel

    variant = kernel.variant(flags)
    storage = arrays[kernel.parameters[0].name].dtype.name
    letters = {"S": storage, "T": compute_type(storage)}
    letters |= {p.type: arrays[p.name].dtype.name for p in variant.parameters if p.type == "I"}
    here = Path(__file__).parent
    text = rows_kernel(variant, letters, unless is not None)
    heads = re.search(r"__global__ void \w+\((.*?)\) \{", text, re.S).group(1).split(", ")
    types = [h.rsplit(" ", 1)[0] for h in heads[:-2]]
    arguments = ", ".join(f"({_qualified(t)})p[{k}]" for k, t in enumerate(types))
    code = "\n".join(
        [
            (here / "cuda_on_cpu.h").read_text(),
            (Path(kernels.__file__).parent / "preamble.h").read_text(),
            text,
            RUN.format(name=kernel_name(variant, letters, unless is not None), arguments=arguments),
        ]
    )
    (folder / "kernel.cpp").write_text(code)
    command = [
        "c++",
        "-std=c++20",
        "-O1",
        "-w",
        "-shared",
        "-fPIC",
        "-pthread",
        "-ffp-contract=off",
        "-march=native",
    ]
    done = subprocess.run(
        [*command, "kernel.cpp", "-o", "kernel.so"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    library = ctypes.CDLL(str(folder / "kernel.so"))
    ordered = [arrays[p.name] for p in variant.parameters]
    if variant.scalars:
        ordered.append(np.array(scalars, letters["T"]))
    if unless is not None:
        ordered.append(unless)
    pointers = (ctypes.c_void_p * len(ordered))(*(a.ctypes.data for a in ordered))
    shape = next(arrays[p.name].shape for p in variant.parameters if p.kind == "array")
    (blocks, _), (x, y) = grid(kernel.axis, shape[0], shape[1])
    library.run(pointers, blocks, x, y, ctypes.c_longlong(shape[1]), ctypes.c_longlong(shape[0]))


def _qualified(t):
    """A pointer type of the kernel's signature, seen from outside its namespace."""
    return re.sub(r"\b(half|bhalf|T)\b", r"minigrad::\1", t)


needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")


@needs_compiler
@pytest.mark.parametrize(
    ("kernel", "shape", "storage", "flags"),
    [
        (layers.SOFTMAX, (5, 70), "float32", ()),
        (layers.SOFTMAX, (3, 7), "float16", ()),
        (layers.BIAS_RELU_BACKWARD, (19, 40), "float32", ()),
        (layers.BIAS_GRAD, (300, 33), "float32", ()),
        (layers.CROSS_ENTROPY, (6, 50), "float32", ("smoothing", "bias")),
    ],
    ids=lambda v: v.name if hasattr(v, "name") else None,
)
def test_the_device_text_of_a_rows_kernel_gives_the_hosts_numbers(kernel, shape, storage, flags, tmp_path):
    rng = np.random.default_rng(0)
    of_kind = {"array": shape, "row": shape[:1], "col": shape[1:]}
    letters = {"S": storage, "T": "float32", "I": "int64"}
    arrays = {}
    for p in kernel.variant(flags).parameters:
        made = (
            rng.integers(-1, shape[1], of_kind[p.kind]) if p.type == "I" else rng.normal(size=of_kind[p.kind])
        )
        arrays[p.name] = made.astype(letters[p.type])
    scalars = [0.1, 0.9] if kernel.variant(flags).scalars else None
    inputs = [arrays.get(p.name) for p in kernel.inputs]
    expected = kernel(*inputs, scalars=scalars, flags=flags)
    on_cpu(kernel, arrays, scalars, tmp_path, flags)
    for p, e in zip(kernel.variant(flags).outputs, expected if isinstance(expected, tuple) else (expected,)):
        tolerance = 1e-3 if storage == "float16" else 2e-6
        np.testing.assert_allclose(
            arrays[p.name].astype(float), e.astype(float), rtol=tolerance, atol=tolerance * 10
        )


@needs_compiler
@pytest.mark.parametrize("kernel", [layers.SOFTMAX, layers.BIAS_GRAD], ids=lambda k: k.name)
@pytest.mark.parametrize(("flag", "written"), [(0.0, True), (1.0, False), (np.nan, False)])
def test_a_guarded_rows_kernel_writes_only_where_the_number_is_0(kernel, flag, written, tmp_path):
    x = np.random.default_rng(0).normal(size=(5, 70)).astype("float32")
    (made,) = kernel.variant().outputs
    out = np.full(x.shape if made.kind == "array" else x.shape[1:], 7, "float32")
    arrays = {kernel.inputs[0].name: x, made.name: out}
    on_cpu(kernel, arrays, None, tmp_path, unless=np.array([flag], "float32"))
    assert (out == 7).all() != written


def test_all_kernels_are_of_a_known_kind():
    assert all(isinstance(k, Elementwise | Rows) for k in kernels.registry.values())


# -- calls on the fake device ------------------------------------------------------------------------------


def test_on_the_device_outputs_may_be_inputs_and_overlaps_are_copied():
    import fake_cupy

    with fake_cupy.installed():
        import cupy as fake

        x = fake.asarray(np.arange(12, dtype=np.float32))
        b = fake.asarray(np.ones(1, np.float32))
        assert layers.BIAS_RELU(x, b, x) is x
        np.testing.assert_array_equal(fake.asnumpy(x), np.arange(12) + 1)
        shifted = x[1:]
        layers.BIAS_RELU(x[:-1], b, shifted)
        np.testing.assert_array_equal(fake.asnumpy(x), [1, *(np.arange(11) + 2)])


@pytest.mark.parametrize(
    ("scalars", "error", "match"),
    [
        (None, ValueError, "takes 4 scalars, not 0"),
        ([1.0], ValueError, "takes 4 scalars, not 1"),
        (np.ones(3), TypeError, "wants 4 scalars of float32, not 3 of float64"),
    ],
)
def test_wrong_scalars_on_the_device_raise(scalars, error, match):
    import fake_cupy

    with fake_cupy.installed():
        import cupy as fake

        g, p = fake.zeros(3, np.float32), fake.zeros(3, np.float32)
        given = fake.asarray(scalars) if isinstance(scalars, np.ndarray) else scalars
        with pytest.raises(error, match=match):
            rules.SGD(g, p, scalars=given)


def test_host_and_device_arrays_in_one_call_raise():
    import fake_cupy

    with fake_cupy.installed():
        import cupy as fake

        x, b = fake.ones((2, 3), np.float32), np.ones(3, np.float32)
        for first, second in ((x, b), (b, x)):
            with pytest.raises(
                TypeError, match=r"is a NumPy array on the host and .* on the device; move one"
            ):
                layers.BIAS_RELU(first, second)
