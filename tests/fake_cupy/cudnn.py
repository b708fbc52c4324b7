"""libcudnn for the fake GPU: C functions that convolve with NumPy what they find at the addresses given.

They are real C callbacks, so an argument in a wrong place or of a wrong type arrives wrong. Descriptors hold
the integers that the Set functions were given, and the sums below are written from the definition of the
convolution, tap by tap, with nothing but those integers. Looked at are: descriptors that go together, the
output's size as cuDNN computes it, types, the stream, pointers that lie in some array's memory and are
aligned, a workspace of the size that was asked for (which is spoilt), and that a capture neither makes a
handle nor chooses an algorithm. What is wrong gives a status, as there, and its reason in `refusals`.

`proposed` is what the library ranks first: not possible, not deterministic, too large, and then one that is
good. `unsupported` are functions that answer CUDNN_STATUS_NOT_SUPPORTED_SHAPE.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

from .cublas import Refused, view
from .device import current, inside

DTYPES = {0: np.dtype("f4"), 1: np.dtype("f8"), 2: np.dtype("f2"), 9: np.dtype(ml_dtypes.bfloat16)}
SUMS = {0: 0, 1: 1, 2: 0, 9: 0}  # the type of the sums that each may be computed in
BAD_PARAM, NOT_SUPPORTED, FAILED = 2000, 3002, 5000
NAMES = {
    status: ctypes.create_string_buffer(f"CUDNN_STATUS_{name}".encode())
    for status, name in (
        *((1001, "NOT_INITIALIZED"), (2000, "BAD_PARAM")),
        *((3002, "NOT_SUPPORTED_SHAPE"), (5000, "EXECUTION_FAILED")),
    )
}
HANDLE = 0xD11
refusals: list[str] = []


class Performance(ctypes.Structure):
    """As cudnn_cnn.h of 9.28 has it: 48 bytes."""

    _fields_ = (
        ("algo", ctypes.c_int), ("status", ctypes.c_int), ("time", ctypes.c_float),
        ("memory", ctypes.c_size_t), ("determinism", ctypes.c_int), ("mathType", ctypes.c_int),
        ("reserved", ctypes.c_int * 3),
    )  # fmt: skip


# what is given and what is made: x image, w weight, y output; how many algorithms there are
WAYS = {"Forward": ("xwy", 8), "BackwardData": ("wyx", 6), "BackwardFilter": ("xyw", 7)}
LAUNCHES = {"Forward": "convolution", "BackwardData": "its image", "BackwardFilter": "its weight"}


class FakeCudnn:
    """What `ctypes.CDLL("libcudnn.so.9")` is on a machine with a GPU."""

    def __init__(self, version: int = 92800, cuda: int = 13000, starts: bool = True) -> None:
        self.calls: list[tuple[str, tuple]] = []
        self.stream: int | None = None
        self.starts = starts
        self.unsupported: set[str] = set()
        self.failing: set[str] = set()
        self.converting: set[int] = set()  # algorithms with CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION
        self.proposed = [(1, NOT_SUPPORTED, 0, 1), (0, 0, 0, 0), (4, 0, 1 << 40, 1), (5, 0, 1000, 1)]
        self.objects: dict[int, dict[str, Any]] = {}
        self.maths: list[int] = []  # of every convolution that ran
        self._numbers = itertools.count(1)
        p, i = ctypes.c_void_p, ctypes.c_int
        self.cudnnGetVersion = ctypes.CFUNCTYPE(ctypes.c_size_t)(lambda: version)
        self.cudnnGetCudartVersion = ctypes.CFUNCTYPE(ctypes.c_size_t)(lambda: cuda)
        self.cudnnGetErrorString = ctypes.CFUNCTYPE(p, i)(lambda status: ctypes.addressof(NAMES[status]))
        self._add("cudnnCreate", [p], self._create)
        self._add("cudnnSetStream", [p, p], self._set_stream)
        for kind in ("Tensor", "Filter", "Convolution"):
            self._add(f"cudnnCreate{kind}Descriptor", [p], self._maker(kind))
            self._add(f"cudnnDestroy{kind}Descriptor", [p], self._destroy)
        self._add("cudnnSetTensor4dDescriptor", [p, i, i, i, i, i, i], self._set_tensor)
        self._add("cudnnSetFilter4dDescriptor", [p, i, i, i, i, i, i], self._set_filter)
        self._add("cudnnSetConvolution2dDescriptor", [p, i, i, i, i, i, i, i, i], self._set_convolution)
        self._add("cudnnSetConvolutionGroupCount", [p, i], self._setter("groups"))
        self._add("cudnnSetConvolutionMathType", [p, i], self._setter("math"))
        for stem in WAYS:
            get = f"cudnnGetConvolution{stem}"
            self._add(f"{get}Algorithm_v7", [p, p, p, p, p, i, p, p], self._chooser(stem))
            self._add(f"{get}WorkspaceSize", [p, p, p, p, p, i, p], self._sizer(stem))
            arguments = [p, p, p, p, p, p, p, i, p, ctypes.c_size_t, p, p, p]
            self._add(f"cudnnConvolution{stem}", arguments, self._runner(stem))

    def _add(self, name: str, arguments: list[Any], run: Callable[..., Any]) -> None:
        def call(*args: Any) -> int:
            self.calls.append((name, args))
            if name in self.unsupported:
                return NOT_SUPPORTED
            if name in self.failing:
                return FAILED
            try:
                return run(*args) or 0
            except Refused as error:
                refusals.append(f"{name}: {error}")
                return BAD_PARAM
            except Exception as error:  # nothing may leave a C callback
                refusals.append(f"{name}: {type(error).__name__}: {error}")
                return FAILED

        setattr(self, name, ctypes.CFUNCTYPE(ctypes.c_int, *arguments)(call))

    def called(self, name: str) -> list[tuple]:
        """The arguments of every call of a function."""
        return [args for called, args in self.calls if called == name]

    # the handle, and what is described

    def _create(self, handle: int) -> int:
        current()._forbid("cudnnCreate allocates")
        if not self.starts:
            return 1001
        ctypes.c_void_p.from_address(handle).value = HANDLE
        return 0

    def _set_stream(self, handle: int, stream: int | None) -> None:
        if handle != HANDLE:
            raise Refused("no handle")
        self.stream = stream or 0

    def _maker(self, kind: str) -> Callable[[int], None]:
        def make(place: int) -> None:
            number = 16 * next(self._numbers)
            self.objects[number] = dict(kind=kind)
            ctypes.c_void_p.from_address(place).value = number

        return make

    def _destroy(self, number: int) -> None:
        if self.objects.pop(number, None) is None:
            raise Refused("no descriptor, or destroyed before")

    def _described(self, number: int, kind: str) -> dict[str, Any]:
        found = self.objects.get(number)
        if found is None or found["kind"] != kind:
            raise Refused(f"{number} is no {kind} descriptor")
        return found

    def _set_tensor(self, number: int, layout: int, dtype: int, *shape: int) -> None:
        if layout != 0 or dtype not in DTYPES or min(shape) < 1 or prod(shape) >= 2**31:
            raise Refused(f"layout {layout}, type {dtype}, shape {shape}")
        self._described(number, "Tensor").update(dtype=dtype, shape=shape)

    def _set_filter(self, number: int, dtype: int, layout: int, *shape: int) -> None:
        if layout != 0 or dtype not in DTYPES or min(shape) < 1:
            raise Refused(f"layout {layout}, type {dtype}, shape {shape}")
        self._described(number, "Filter").update(dtype=dtype, shape=shape)

    def _set_convolution(self, number, pad_h, pad_w, u, v, dilation_h, dilation_w, mode, sums) -> None:
        if min(pad_h, pad_w) < 0 or min(u, v, dilation_h, dilation_w) < 1 or mode != 1 or sums not in (0, 1):
            raise Refused("a pad below 0, a stride below 1, or no cross-correlation")
        self._described(number, "Convolution").update(
            pad=(pad_h, pad_w), stride=(u, v), dilation=(dilation_h, dilation_w), sums=sums, groups=1, math=0
        )

    def _setter(self, name: str) -> Callable[[int, int], None]:
        def set_(number: int, value: int) -> None:
            if (name == "math" and value not in (0, 1, 2, 3)) or (name == "groups" and value < 1):
                raise Refused(f"{name} {value}")
            self._described(number, "Convolution")[name] = value

        return set_

    def _problem(self, stem: str, handle: int, first: int, second: int, conv: int, made: int) -> dict:
        """What the descriptors say, once they go together."""
        if handle != HANDLE:
            raise Refused("no handle")
        found = self._described(conv, "Convolution")
        parts = {}
        for letter, number in zip(WAYS[stem][0], (first, second, made)):
            parts[letter] = self._described(number, "Filter" if letter == "w" else "Tensor")
        (n, c, *size), (o, per_group, *kernel), y = (parts[letter]["shape"] for letter in "xwy")
        groups = found["groups"]
        out = [
            (s + 2 * pad - ((k - 1) * d + 1)) // u + 1
            for s, k, pad, u, d in zip(size, kernel, found["pad"], found["stride"], found["dilation"])
        ]
        if c != groups * per_group or o % groups or y != (n, o, *out):
            raise Refused(
                f"x {(n, c, *size)}, w {(o, per_group, *kernel)}, y {y}, groups {groups}, not {out}"
            )
        types = {part["dtype"] for part in parts.values()}
        if len(types) != 1 or SUMS[min(types)] != found["sums"]:
            raise Refused(f"types {types} with sums of type {found['sums']}")
        return dict(found, dtype=min(types), shapes={letter: parts[letter]["shape"] for letter in "xwy"})

    # the algorithm and its workspace

    def _needs(self, algorithm: int) -> int:
        return next(memory for algo, _, memory, _ in self.proposed if algo == algorithm)

    def _chooser(self, stem: str) -> Callable[..., None]:
        def choose(handle, first, second, conv, made, room, count, listed) -> None:
            current()._forbid("an algorithm is chosen")
            math = self._problem(stem, handle, first, second, conv, made)["math"]
            if room != WAYS[stem][1]:
                raise Refused(f"room for {room} algorithms, of {WAYS[stem][1]}")
            ctypes.c_int.from_address(count).value = len(self.proposed)
            for k, (algo, status, memory, determinism) in enumerate(self.proposed):
                place = listed + k * ctypes.sizeof(Performance)
                found = Performance.from_address(place)
                found.algo, found.status, found.time, found.memory = algo, status, -1.0, memory
                found.determinism, found.mathType = determinism, 0 if math == 3 else math
                found.mathType = 2 if algo in self.converting else found.mathType

        return choose

    def _sizer(self, stem: str) -> Callable[..., None]:
        def size(handle, first, second, conv, made, algorithm, place) -> None:
            self._problem(stem, handle, first, second, conv, made)
            ctypes.c_size_t.from_address(place).value = self._needs(algorithm)

        return size

    # the products

    def _runner(self, stem: str) -> Callable[..., None]:
        letters = WAYS[stem][0]

        def run(
            handle, alpha, first, at, second, at_second, conv, algorithm, room, nbytes, beta, made, at_made
        ):
            problem = self._problem(stem, handle, first, second, conv, made)
            if self.stream != current().stream.ptr:
                raise Refused("the handle's stream is not the current one")
            if nbytes < self._needs(algorithm) or (nbytes and not inside(room, nbytes)):
                raise Refused(f"a workspace of {nbytes} bytes, which are too few or nobody's")
            kind = ctypes.c_double if problem["dtype"] == 1 else ctypes.c_float
            if (kind.from_address(alpha).value, kind.from_address(beta).value) != (1, 0):
                raise Refused("alpha and beta are not 1 and 0 of their type")
            dtype, arrays = DTYPES[problem["dtype"]], []
            for letter, address in zip(letters, (at, at_second, at_made)):
                shape = problem["shapes"][letter]
                strides = tuple([prod(shape[k + 1 :]) for k in range(4)])
                if address % 16:
                    raise Refused(f"{letter} at {address:#x} is not aligned")
                arrays.append(view(address, shape, strides, dtype))
            self.maths.append(problem["math"])
            spoilt = view(room, (nbytes,), (1,), np.dtype("u1")) if nbytes else np.empty(0, "u1")

            def compute(*arrays: np.ndarray) -> None:
                *given, space = arrays
                space[...] = 0xFF
                convolved(problem, dict(zip(letters, given)), letters[2])

            current().execute(LAUNCHES[stem], compute, (*arrays, spoilt), {}, True)

        return run


def convolved(problem: dict, arrays: dict[str, np.ndarray], made: str) -> None:
    """y[n, o, r, q] = sum of w[o, c, i, j] x[n, c, r u + i d - pad, ...], or what its transposes make."""
    wide = np.float64 if problem["dtype"] == 1 else np.float32
    (ph, pw), (u, v), (dh, dw) = problem["pad"], problem["stride"], problem["dilation"]
    n, c, h, w = problem["shapes"]["x"]
    o, per_group, kh, kw = problem["shapes"]["w"]
    oh, ow = problem["shapes"]["y"][2:]
    groups = problem["groups"]
    each = {
        letter: a.astype(wide) if letter != made else np.zeros(a.shape, wide) for letter, a in arrays.items()
    }
    image = np.zeros((n, c, h + 2 * ph, w + 2 * pw), wide)
    image[:, :, ph : ph + h, pw : pw + w] = each["x"]
    for g, i, j in itertools.product(range(groups), range(kh), range(kw)):
        seen = image[
            :, g * per_group : (g + 1) * per_group,
            i * dh : i * dh + (oh - 1) * u + 1 : u, j * dw : j * dw + (ow - 1) * v + 1 : v,
        ]  # fmt: skip
        outputs = slice(g * (o // groups), (g + 1) * (o // groups))
        tap, y = each["w"][outputs, :, i, j], each["y"][:, outputs]
        if made == "y":
            y += np.einsum("oc,nchw->nohw", tap, seen)
        elif made == "x":
            seen += np.einsum("oc,nohw->nchw", tap, y)
        else:
            tap += np.einsum("nohw,nchw->oc", y, seen)
    if made == "x":
        each["x"] = image[:, :, ph : ph + h, pw : pw + w]
    arrays[made][...] = each[made].astype(arrays[made].dtype)
