"""Convolution on a GPU by cuDNN, called through ctypes: an option, off unless it is switched on.

    forward   y = conv(x, w)
    input     x = the gradient of the image, y that of the output
    weight    w = the gradient of the weight, y that of the output

by default are columns and matrix products (minigrad/ops/conv.py), which write and read every pixel as often
as a window sees it. cuDNN makes no columns: for a step of ResNet-9 that is a third of the bytes and two
thirds of the launches, counted; which of the two is the faster has not been measured.
`minigrad.backends.cudnn.enabled = True` switches it on.

The functions called are cuDNN's older ones, a call for a convolution; it deprecates them for its graphs of
operations, and version 9 still exports them all. A convolution is described once, for a shape, type and
precision: its *plan* has the descriptors, the algorithm, and how much memory that works in. What is chosen:

    algorithm   the first in cuDNN's own order (cudnnGet...Algorithm_v7; nothing is run, nothing timed) that
                is deterministic, since the same seed gives the same bits, and works in WORKSPACE bytes
    float32     CUDNN_FMA_MATH forbids TF32, CUDNN_DEFAULT_MATH permits it [NVIDIA cuDNN API reference,
                cudnnMathType_t]; so TF32 is used where set_float32_matmul_precision asks for less than
                "highest", and `allow_tf32` does not object
    16 bits     float16 and bfloat16 are multiplied on tensor cores and added up in float32

Images and weights are (N, C, H, W) and contiguous; others are copied. Memory to work in comes from the pool
that is current at the call, and goes back after it: in a captured graph, from that graph's own. Plans are
made at warm-up; a capture that meets a new one is refused.

What cuDNN does not take (more padding behind than before, 2^31 elements, what it answers by "not supported")
is left to columns, as is everything where the library is not found; `libcudnn.why()` says which serves, and
why.
"""

from __future__ import annotations

import functools
import threading
from ctypes import byref, c_double, c_float, c_int, c_size_t, c_void_p
from math import prod
from typing import Any, NamedTuple

import numpy as np

from kernels.cuda import blas, graph, libcudnn
from kernels.cuda.libcudnn import DIRECTIONS, Algorithm, Direction
from kernels.windows import Windows

# cudnnDataType_t, that of the sums, and the C type of alpha and beta, by element type
TYPES = {
    "float32": (0, 0, c_float),
    "float64": (1, 1, c_double),
    "float16": (2, 0, c_float),
    "bfloat16": (9, 0, c_float),
}
NCHW, CROSS_CORRELATION, DETERMINISTIC = 0, 1, 1
DEFAULT_MATH, TENSOR_OP_MATH, CONVERTING_MATH, FMA_MATH = 0, 1, 2, 3
NOT_SUPPORTED = 3  # a status is its category times 1000, and what it is exactly
WORKSPACE = 1 << 30  # bytes
ELEMENTS = 2**31 - 1  # of one array; cuDNN says so itself, but takes 2**32 for none
ALIGNMENT = 16  # bytes: what tensor cores load at once
PLANS = 1024  # shapes that are remembered

_local = threading.local()


class NotSupported(Exception):
    """cuDNN does not take this; columns do."""


# --------------------------------------------------------------------------------------------------- the plan


class Case(NamedTuple):
    """What a plan is made for."""

    direction: str
    kind: str
    images: int
    channels: int
    outputs: int
    win: Windows
    groups: int
    math: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        weight = (self.outputs, self.channels // self.groups, *self.win.kernel)
        return dict(
            x=(self.images, self.channels, *self.win.size),
            w=weight,
            y=(self.images, self.outputs, *self.win.out),
        )

    def __str__(self) -> str:
        x, w, y = [list(shape) for shape in self.shapes.values()]
        return (
            f"{self.direction} of {self.kind} x {x}, w {w}, y {y}, stride {self.win.stride}, padding "
            f"{self.win.before}, dilation {self.win.dilation}, groups {self.groups}"
        )


class Plan(NamedTuple):
    """How a case is computed: the function, its descriptors, algorithm and workspace."""

    function: Any
    given: tuple[Any, Any]
    convolution: Any
    made: Any
    algorithm: int
    workspace: int
    numbers: tuple[Any, Any]  # alpha and beta, which cuDNN reads on the host
    held: list[tuple[str, Any]]  # descriptors and their kinds


class Handle:
    """A cuDNN handle of one device and one thread, and the plans made with it."""

    def __init__(self, lib: Any, cupy: Any):
        self.lib, self.cupy = lib, cupy
        self.plans: dict[Case, Plan | None] = {}
        handle = c_void_p()
        self.check("cudnnCreate", lib.cudnnCreate(byref(handle)))
        self.handle = handle

    def check(self, function: str, status: int, case: Any = None) -> None:
        """NotSupported for what cuDNN says it cannot do, RuntimeError for anything else but success."""
        if status:
            name = self.lib.cudnnGetErrorString(status).decode()
            detail = "" if case is None else f" ({case})"
            kind: Any = NotSupported if status // 1000 == NOT_SUPPORTED else RuntimeError
            raise kind(f"{function}: cuDNN status {status}, {name}{detail}")

    def plan(self, case: Case) -> Plan | None:
        """The plan of a case, made when it is first asked for; None where cuDNN does not take it."""
        if case in self.plans:
            return self.plans[case]
        _at_warm_up(case)
        if len(self.plans) >= PLANS:
            self.forget()
        held: list[tuple[str, Any]] = []
        try:
            self.plans[case] = self._made(case, held)
        except BaseException as error:
            self._destroy(held)
            if not isinstance(error, NotSupported):
                raise
            self.leave(case, error)
        return self.plans[case]

    def leave(self, case: Case, error: NotSupported) -> None:
        """From now on columns compute this."""
        self.plans[case] = None
        libcudnn.refused(str(error))

    def forget(self) -> None:
        """Plans of shapes that changed; what they launched does not need them."""
        for plan in self.plans.values():
            if plan is not None:
                self._destroy(plan.held)
        self.plans.clear()

    def _destroy(self, held: list[tuple[str, Any]]) -> None:
        for kind, descriptor in held:
            getattr(self.lib, f"cudnnDestroy{kind}Descriptor")(descriptor)

    def _described(self, case: Case, held: list[tuple[str, Any]], kind: str, setter: str, *given: int) -> Any:
        descriptor, create = c_void_p(), f"cudnnCreate{kind}Descriptor"
        self.check(create, getattr(self.lib, create)(byref(descriptor)), case)
        held.append((kind, descriptor))
        self.check(setter, getattr(self.lib, setter)(descriptor, *given), case)
        return descriptor

    def _made(self, case: Case, held: list[tuple[str, Any]]) -> Plan:
        described = functools.partial(self._described, case, held)
        kind, sums, number = TYPES[case.kind]
        shapes, win = case.shapes, case.win
        if max(map(prod, shapes.values())) > ELEMENTS:
            raise NotSupported(f"cuDNN's arrays have at most {ELEMENTS} elements ({case})")
        parts = dict(
            x=described("Tensor", "cudnnSetTensor4dDescriptor", NCHW, kind, *shapes["x"]),
            w=described("Filter", "cudnnSetFilter4dDescriptor", kind, NCHW, *shapes["w"]),
            y=described("Tensor", "cudnnSetTensor4dDescriptor", NCHW, kind, *shapes["y"]),
        )
        geometry = (*win.before, *win.stride, *win.dilation)
        conv = described("Convolution", "cudnnSetConvolution2dDescriptor", *geometry, CROSS_CORRELATION, sums)
        for name, value in (("GroupCount", case.groups), ("MathType", case.math)):
            setter = f"cudnnSetConvolution{name}"
            self.check(setter, getattr(self.lib, setter)(conv, value), case)
        way = DIRECTIONS[case.direction]
        first, second, made = (parts[name] for name in (*way.given, way.made))
        algorithm, workspace = self._chosen(case, way, (first, second, conv, made), conv)
        numbers = (number(1), number(0))
        return Plan(
            getattr(self.lib, way.run), (first, second), conv, made, algorithm, workspace, numbers, held
        )

    def _chosen(self, case: Case, way: Direction, described: tuple, conv: Any) -> tuple[int, int]:
        """The best algorithm that is deterministic and has room, and how much it needs."""
        listed, count, needs = (Algorithm * way.algorithms)(), c_int(), c_size_t()
        choose, ask = getattr(self.lib, way.choose), getattr(self.lib, way.ask)
        status = choose(self.handle, *described, way.algorithms, byref(count), listed)
        self.check(way.choose, status, case)
        for found in listed[: count.value]:
            if found.status or found.determinism != DETERMINISTIC:
                continue
            if found.math == CONVERTING_MATH and case.math != FMA_MATH:
                continue  # float32 in float16, which nobody asked for
            if case.math != FMA_MATH:  # which is kept, whatever is proposed
                status = self.lib.cudnnSetConvolutionMathType(conv, found.math)
                self.check("cudnnSetConvolutionMathType", status, case)
            if not ask(self.handle, *described, found.algo, byref(needs)) and needs.value <= WORKSPACE:
                return found.algo, needs.value
        raise NotSupported(
            f"{way.choose}: of {count.value} algorithms none is deterministic and works in {WORKSPACE} bytes "
            f"({case})"
        )


def _at_warm_up(what: Any) -> None:
    """What is made once cannot be made while a step is captured."""
    recorder = graph.current()
    if recorder is not None and recorder.capturing:
        recorder.refuse(f"cuDNN is given what warm-up did not have: {what}")


def handle() -> Handle | None:
    """The thread's handle on its current device; None where there is no library, or it does not start."""
    lib = libcudnn.library()
    if lib is None:
        return None
    import cupy

    held = _local.__dict__.setdefault("handles", {})
    number = cupy.cuda.Device().id
    found = held.get(number)
    if found is None or found.lib is not lib:
        _at_warm_up("its first convolution on this thread")
        try:
            found = held[number] = Handle(lib, cupy)
        except (NotSupported, RuntimeError) as error:
            libcudnn.unusable(str(error))
            return None
    return found


# ----------------------------------------------------------------------------------------- the three products


def product(
    direction: str, x: Any, w: Any, y: Any, win: Windows, groups: int, allow_tf32: bool = True
) -> Any:
    """x (N, C, H, W), w (O, C / groups, kh, kw), y (N, O, OH, OW): makes one of them of the other two.

    The one that `direction` makes is written to, or None, and then allocated. Returns it; None where cuDNN
    does not do it, and nothing was done.
    """
    way, arrays = DIRECTIONS[direction], dict(x=x, w=w, y=y)
    first, second = (arrays[name] for name in way.given)
    out, kind = arrays[way.made], first.dtype.name
    if first.dtype != second.dtype or kind not in TYPES or not takes(win) or not (first.size and second.size):
        return None
    if out is not None and (out.dtype != first.dtype or not _ready(out)):
        return None
    images = len(y if x is None else x)
    channels = w.shape[1] * groups if x is None else x.shape[1]
    outputs = len(w) if y is None else y.shape[1]
    case = Case(direction, kind, images, channels, outputs, win, groups, math_of(kind, allow_tf32))
    its = handle()
    plan = None if its is None else its.plan(case)
    if its is None or plan is None:
        return None
    if out is None:
        out = its.cupy.empty(case.shapes[way.made], first.dtype)
    first, second = (a if _ready(a) else a.copy(order="C") for a in (first, second))
    room = its.cupy.empty(plan.workspace, np.uint8) if plan.workspace else None
    its.check("cudnnSetStream", its.lib.cudnnSetStream(its.handle, its.cupy.cuda.get_current_stream().ptr))
    alpha, beta = plan.numbers
    status = plan.function(
        its.handle, byref(alpha), plan.given[0], first.data.ptr, plan.given[1], second.data.ptr,
        plan.convolution, plan.algorithm, None if room is None else room.data.ptr, plan.workspace,
        byref(beta), plan.made, out.data.ptr,
    )  # fmt: skip
    try:
        its.check(way.run, status, case)
    except NotSupported as error:
        its.leave(case, error)
        return None
    return out


def math_of(kind: str, allow_tf32: bool) -> int:
    """The cudnnMathType_t that an element type is multiplied with."""
    if kind == "float32":
        return DEFAULT_MATH if allow_tf32 and blas.precision != "highest" else FMA_MATH
    return DEFAULT_MATH if kind == "float64" else TENSOR_OP_MATH


@functools.lru_cache(1024)
def takes(win: Windows) -> bool:
    """Whether the geometry is one that cuDNN can be told: as much padding behind as before."""
    return all(
        out == (size + 2 * before - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, stride, before, dilation, out in zip(*win, strict=True)
    )


def _ready(a: Any) -> bool:
    return bool(a.flags.c_contiguous) and a.data.ptr % ALIGNMENT == 0
