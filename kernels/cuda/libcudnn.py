"""libcudnn: where it is found, and the functions of it that are called (kernels/cuda/dnn.py says for what).

It must be version 9, made for the CUDA that CuPy runs on. Where it is missing or does not fit, `library()` is
None and `why()` has the reason; nothing raises.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator
from ctypes import POINTER, c_char_p, c_float, c_int, c_size_t, c_void_p
from pathlib import Path
from typing import Any, NamedTuple

from kernels.cuda import blas

OLDEST = 90000  # of cudnnGetVersion
MOST = 1024  # refusals that are remembered


class Algorithm(ctypes.Structure):
    """cudnnConvolution{Fwd,BwdData,BwdFilter}AlgoPerf_t, which are the same"""

    _fields_ = (
        ("algo", c_int), ("status", c_int), ("time", c_float), ("memory", c_size_t),
        ("determinism", c_int), ("math", c_int), ("reserved", c_int * 3),
    )  # fmt: skip


class Direction(NamedTuple):
    """One of the three products: what is given and what is made, how many algorithms cuDNN has for it, and
    its functions: to choose one of them, to ask for its workspace, to run it."""

    given: tuple[str, str]
    made: str
    algorithms: int
    choose: str
    ask: str
    run: str


def _direction(stem: str, given: tuple[str, str], made: str, algorithms: int) -> Direction:
    get = f"cudnnGetConvolution{stem}"
    return Direction(
        given, made, algorithms, f"{get}Algorithm_v7", f"{get}WorkspaceSize", f"cudnnConvolution{stem}"
    )


DIRECTIONS = {
    "forward": _direction("Forward", ("x", "w"), "y", 8),
    "input": _direction("BackwardData", ("w", "y"), "x", 6),
    "weight": _direction("BackwardFilter", ("x", "y"), "w", 7),
}

p, i = c_void_p, c_int
SIGNATURES: dict[str, list[Any]] = {
    "cudnnCreate": [p],
    "cudnnSetStream": [p, p],
    **{f"cudnnCreate{kind}Descriptor": [p] for kind in ("Tensor", "Filter", "Convolution")},
    **{f"cudnnDestroy{kind}Descriptor": [p] for kind in ("Tensor", "Filter", "Convolution")},
    "cudnnSetTensor4dDescriptor": [p, i, i, i, i, i, i],  # format, type, n, c, h, w
    "cudnnSetFilter4dDescriptor": [p, i, i, i, i, i, i],  # type, format, o, c, h, w
    "cudnnSetConvolution2dDescriptor": [p, i, i, i, i, i, i, i, i],  # pad, stride, dilation, mode, type
    "cudnnSetConvolutionGroupCount": [p, i],
    "cudnnSetConvolutionMathType": [p, i],
}
# handle, given, given, convolution, made; then how many to list, how many came, the list
SIGNATURES |= {way.choose: [p, p, p, p, p, i, p, POINTER(Algorithm)] for way in DIRECTIONS.values()}
# ... then the algorithm, its bytes
SIGNATURES |= {way.ask: [p, p, p, p, p, i, p] for way in DIRECTIONS.values()}
# handle, alpha, given and where (twice), convolution, algorithm, workspace, bytes, beta, made and where
SIGNATURES |= {way.run: [p, p, p, p, p, p, p, i, p, c_size_t, p, p, p] for way in DIRECTIONS.values()}

_reason = "no convolution has asked for cuDNN yet"
_found: tuple[Any, Any] | None = None  # the cupy module it was looked for with, the library or None
_refused: dict[str, None] = {}  # what was left to columns


def why() -> str:
    """Whether cuDNN convolves on the GPU, and why not; a line each for what it did not take."""
    return "\n".join([_reason, *_refused])


def unusable(reason: str) -> None:
    """The library that was found does not start: columns serve from now on."""
    global _found, _reason
    assert _found is not None
    _found, _reason = (_found[0], None), f"columns serve, not cuDNN: {reason}"


def refused(what: str) -> None:
    """Something that the library does not take, and columns do."""
    if len(_refused) < MOST:
        _refused[f"columns serve for one: {what}"] = None


def library() -> Any:
    """cuDNN with its functions typed; None where it is not found (why() has the reason)."""
    global _found, _reason
    import cupy

    if _found is None or _found[0] is not cupy:
        opened, said = _open(cupy)
        if opened is not None:
            try:
                said = _fitting(opened, cupy, said)
            except (AttributeError, OSError) as error:
                opened, said = None, f"columns serve, not cuDNN: {error}"
        _found, _reason = (cupy, opened), said
        _refused.clear()
    return _found[1]


def version() -> int | None:
    """cudnnGetVersion(): 92800 is 9.28.0; None where the library is not found."""
    lib = library()
    return None if lib is None else int(lib.cudnnGetVersion())


def _open(cupy: Any) -> tuple[Any, str]:
    brings = getattr(cupy.ndarray, "__minigrad_cudnn__", None)  # an array may bring its library
    if brings is not None:
        brought = brings()
        if brought is None:
            return None, "columns serve, not cuDNN: the arrays brought none"
        return brought, "the arrays brought it"
    blas.library()  # cuDNN calls cuBLAS, and takes the one that is loaded
    tried = []
    for name in _candidates():
        try:
            return ctypes.CDLL(name), name
        except OSError as error:
            tried.append(str(error))
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    cure = f"pip install nvidia-cudnn-cu{major}"
    return None, f"columns serve, not cuDNN: {'; '.join(tried)}; to have it: {cure}"


def _candidates() -> Iterator[str]:
    """Paths and names of the library: where NVIDIA's wheels have it, then the system's."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        yield load_nvidia_dynamic_lib("cudnn").abs_path
    except Exception:  # not installed, or one of its own errors for a library that it does not find
        pass
    try:
        wheel = importlib.util.find_spec("nvidia.cudnn")
    except ImportError:
        wheel = None
    for folder in (wheel and wheel.submodule_search_locations) or ():
        for name in ("lib/libcudnn.so.9", "bin/cudnn64_9.dll"):
            if (Path(folder) / name).exists():
                yield str(Path(folder) / name)
    yield from ("libcudnn.so.9", "cudnn64_9.dll", "libcudnn.so")


def _fitting(lib: Any, cupy: Any, name: str) -> str:
    """Type the functions; OSError for a library that does not go with this program, else what it is."""
    for function in ("cudnnGetVersion", "cudnnGetCudartVersion"):
        getattr(lib, function).argtypes, getattr(lib, function).restype = [], c_size_t
    lib.cudnnGetErrorString.argtypes, lib.cudnnGetErrorString.restype = [c_int], c_char_p
    found, made_for = lib.cudnnGetVersion(), lib.cudnnGetCudartVersion() // 1000
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    if found < OLDEST:
        raise OSError(f"{name} is version {found}, and {OLDEST} is the first whose functions these are")
    if made_for != major:
        raise OSError(
            f"{name} is made for CUDA {made_for}, CuPy for CUDA {major}; pip install nvidia-cudnn-cu{major}"
        )
    for function, arguments in SIGNATURES.items():
        typed = getattr(lib, function)
        typed.argtypes, typed.restype = arguments, c_int
    return f"cuDNN {found} convolves: {name}"
