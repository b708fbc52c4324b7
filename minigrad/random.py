"""Random numbers: one seed, two streams.

The *host stream* serves what is drawn once and then moved to its device: initial values, shuffles, `rand`,
`randn`. It is NumPy's PCG64 generator; `host(generator)` is the numpy.random.Generator itself.

The *counter stream* serves what is drawn inside a computation, on whatever device that runs: dropout. It is a
function, not a sequence: Philox4x32-10 [Salmon et al. 2011] turns a counter of 128 bits and a key of 64 bits
into four words of 32 random bits. The key is the seed; the counter is (block, offset): `offset` is the number
of the draw, taken from `next_offset()` by every random operation, and `block` counts the groups of four
elements within the draw. So the same seed gives the same numbers on every device, and a backward pass that
knows the offset draws them again instead of keeping them.

`manual_seed(s)` starts both streams. A Generator's state is 64 bytes, the same in every process and on every
machine.
"""

from __future__ import annotations

import os
import struct
from typing import Any

import numpy as np

from kernels.cuda import graph

from .backend import device, uploaded
from .tensor import Tensor

_LAYOUT = struct.Struct(
    "<16s16sIIQQQ"
)  # PCG64's state and increment, its spare 32 bits, seed, draws, version
_VERSION = 1
_MASK = (1 << 64) - 1


class Generator:
    """A source of random numbers: `Generator(seed)`, or `Generator().manual_seed(seed)` as in PyTorch.

    Without a seed it starts from the operating system's entropy. Numbers are drawn on the host whatever the
    device they go to, so `device` is only remembered.
    """

    def __init__(self, seed: Any = None, device: Any = "cpu"):
        if seed is not None and not isinstance(seed, (int, np.integer)):
            seed, device = None, seed  # torch's Generator(device)
        self.device = _device(device)
        self.manual_seed(_entropy() if seed is None else seed)

    def manual_seed(self, seed: int) -> Generator:
        """Start both streams anew. Negative seeds count from 2^64, as in PyTorch. Returns self."""
        seed = seed.__index__()
        if not -(1 << 63) <= seed < 1 << 64:
            raise ValueError(f"manual_seed: {seed} does not fit into 64 bits")
        self._seed = seed & _MASK
        self._host: Any = None  # made when it is drawn from: numpy.random takes its time to load
        self.offset = 0
        return self

    @property
    def host(self) -> np.random.Generator:
        """The host stream."""
        if self._host is None:
            self._host = np.random.Generator(np.random.PCG64(self._seed))
        return self._host

    def seed(self) -> int:
        """Start both streams anew from the operating system's entropy; returns the seed."""
        self.manual_seed(_entropy())
        return self._seed

    def initial_seed(self) -> int:
        """The seed that the streams started from."""
        return self._seed

    def philox_state(self) -> tuple[int, int]:
        """(key, offset of the next draw) of the counter stream."""
        return self._seed, self.offset

    def next_offset(self, n: int = 1) -> int:
        """Reserve n draws of the counter stream; returns the offset of the first."""
        first = self.offset
        self.offset = (first + n) & _MASK
        return first

    def get_state(self) -> Tensor:
        """Both streams' state, as a uint8 tensor of 64 bytes."""
        pcg: Any = self.host.bit_generator.state
        words = [pcg["state"][k].to_bytes(16, "little") for k in ("state", "inc")]
        packed = _LAYOUT.pack(*words, pcg["has_uint32"], pcg["uinteger"], self._seed, self.offset, _VERSION)
        return Tensor(np.frombuffer(packed, np.uint8).copy())

    def set_state(self, state: Tensor) -> Generator:
        """Continue from a state that get_state() gave. Returns self."""
        packed = bytes(np.asarray(state.array)) if isinstance(state, Tensor) else bytes(state)
        if len(packed) != _LAYOUT.size or _LAYOUT.unpack(packed)[-1] != _VERSION:
            raise ValueError(f"set_state: {len(packed)} bytes that are no state of a minigrad Generator")
        low, inc, has, spare, self._seed, self.offset, _ = _LAYOUT.unpack(packed)
        self._host = np.random.Generator(np.random.PCG64(0))
        self._host.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": int.from_bytes(low, "little"), "inc": int.from_bytes(inc, "little")},
            "has_uint32": has,
            "uinteger": spare,
        }
        return self

    def clone_state(self) -> Generator:
        """Another Generator in the same state."""
        return Generator(0, self.device).set_state(self.get_state())

    def __repr__(self) -> str:
        return f"Generator(seed={self._seed}, offset={self.offset}, device={self.device})"


def _entropy() -> int:
    """63 random bits from the operating system."""
    return int.from_bytes(os.urandom(8), "little") >> 1


def _device(spec: Any) -> device:
    return spec if isinstance(spec, device) else device(spec)


default_generator = Generator(0)


def host(generator: Generator | None = None) -> np.random.Generator:
    """The numpy.random.Generator behind a Generator; of the default one without argument."""
    if generator is None:
        return default_generator.host
    if not isinstance(generator, Generator):
        raise TypeError(f"generator: {type(generator).__name__} is no minigrad.Generator")
    return generator.host


def manual_seed(seed: int) -> Generator:
    """Start both streams of the default generator from a seed; returns the generator."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Start all random numbers from the operating system's entropy; returns the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed that the default generator started from."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The state of the default generator, both streams: 64 bytes as a uint8 tensor."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Continue the default generator from a state that get_rng_state() gave."""
    default_generator.set_state(new_state)


def philox_state() -> tuple[int, int]:
    """(key, offset of the next draw) of the default generator's counter stream."""
    return default_generator.philox_state()


def next_offset(n: int = 1) -> int:
    """Reserve n draws of the default generator's counter stream; returns the offset of the first."""
    return default_generator.next_offset(n)


def draw(where: device) -> Any:
    """[seed, offset] of the next draw of the default generator, uint64 on a device, for a kernel that draws.

    A captured step reads words there that move on by themselves.
    """
    recorder, (key, offset) = graph.current(), (initial_seed(), next_offset())
    held = None if recorder is None else recorder.draw()
    if held is not None:
        return held
    words = np.array([key, offset], np.uint64)
    return words if where.type == "cpu" else uploaded(words, where)


# ---------------------------------------------------------------------------------------------- Philox4x32-10

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)  # the golden ratio and sqrt(3) - 1, as fractions of 2^32
ROUNDS = 10


def philox4x32(counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Philox4x32-10: four words of 32 bits (arrays of them) and a key of two words -> four random words.

    Ten rounds of   c0, c1, c2, c3 <- hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0),
    the key growing by (W0, W1) between rounds. It is the plain statement that kernels are tested against.
    """
    c0, c1, c2, c3 = (np.asarray(c, np.uint64) for c in counter)
    k0, k1 = (int(k) for k in key)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(ROUNDS):
        left, right = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (right >> half) ^ c1 ^ np.uint64(k0),
            right & low,
            (left >> half) ^ c3 ^ np.uint64(k1),
            left & low,
        )
        k0, k1 = (k0 + KEY_STEPS[0]) & 0xFFFFFFFF, (k1 + KEY_STEPS[1]) & 0xFFFFFFFF
    return tuple(c.astype(np.uint32) for c in (c0, c1, c2, c3))


def philox_bits(key: int, offset: int, n: int) -> np.ndarray:
    """The n words of 32 bits of one draw: element i is word i % 4 of the block i // 4."""
    block = np.arange(-(-n // 4), dtype=np.uint64)
    words = philox4x32(
        (block & np.uint64(0xFFFFFFFF), block >> np.uint64(32), offset & 0xFFFFFFFF, offset >> 32),
        (key & 0xFFFFFFFF, key >> 32),
    )
    return np.stack(np.broadcast_arrays(*words), axis=-1).reshape(-1)[:n]


def philox_uniform(key: int, offset: int, n: int) -> np.ndarray:
    """The n float32 numbers of one draw, uniform in [0, 1): the upper 24 bits of each word, times 2^-24."""
    return (philox_bits(key, offset, n) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
