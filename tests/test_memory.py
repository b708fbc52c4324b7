"""Where the compiled machine's arrays lie: aligned, used again, bounded, and with the values they had."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from numpy._core.multiarray import get_handler_name

import kernels
from kernels import cache, memory

pytestmark = pytest.mark.skipif(
    isinstance(cache._toolchain(os.environ.get("CXX", ""), os.environ.get("PATH", "")), cache.Unavailable),
    reason="there is no C++ compiler: arrays stay in NumPy's memory",
)


@pytest.fixture(autouse=True)
def installed():
    with kernels.use("compiled"):
        yield
    memory.empty()


def elsewhere(code: str, **environment: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SIZES = [*range(0, 1200, 13), *(10**k + j for k in range(3, 8) for j in (-1, 0, 1))]


def test_arrays_begin_a_cache_line_and_zeros_are_zeros_in_used_memory_too():
    for _ in range(2):
        held = [np.zeros(n, np.uint8) for n in SIZES]
        for n, a in zip(SIZES, held, strict=True):
            assert get_handler_name(a) == "minigrad"
            assert n == 0 or a.ctypes.data % 64 == 0
            assert not a.any()
            a[:] = 255  # what the next round may get


def test_the_block_freed_last_serves_the_next_array_of_about_that_size():
    a = np.empty((1024, 128), np.float32)
    place = a.ctypes.data
    del a
    used = memory.counts()[0]
    b = np.empty((1020, 128), np.float32)
    assert b.ctypes.data == place
    assert memory.counts()[0] - used == 1024 * 128 * 4


def test_blocks_are_at_most_an_eighth_larger_than_what_was_asked_for():
    for n in (65, 513, 1025, 5000, 2**20 + 1, 10**7):
        before = memory.counts()[0]
        a = np.empty(n, np.uint8)
        assert n <= memory.counts()[0] - before <= max(n * 9 / 8 + 64, 128)
        del a


def test_arrays_do_not_share_memory_and_keep_their_values():
    rng = np.random.default_rng(0)
    held: dict[int, np.ndarray] = {}
    for k in range(3000):
        if held and rng.random() < 0.5:
            key = int(rng.choice(list(held)))
            a = held.pop(key)
            assert (a == key % 251).all()
        else:
            held[k] = np.full(int(rng.integers(1, 3000)), k % 251, np.uint8)
    assert all((a == key % 251).all() for key, a in held.items())


def test_resizing_in_place_keeps_what_was_there():
    x = np.arange(10)
    x.resize(100_000, refcheck=False)
    assert x[:10].tolist() == list(range(10)) and not x[10:].any()
    x.resize(5, refcheck=False)
    assert x.tolist() == [0, 1, 2, 3, 4]


def test_what_lies_idle_is_never_more_than_was_once_in_use():
    memory.empty()
    most = memory.counts()[1]
    for n in range(1, 200):  # as many classes, one after the other
        np.empty(n * 50_000, np.uint8)
        used, most, idle = memory.counts()
        assert idle <= most
    assert most < used + 2 * 200 * 50_000
    memory.empty()
    assert memory.counts()[2] == 0


def test_too_large_an_array_is_a_memory_error():
    with pytest.raises(MemoryError):
        np.empty(1 << 60, np.uint8)
    with pytest.raises(MemoryError):
        np.zeros(1 << 46, np.uint8)


def test_arrays_of_many_threads_keep_their_values_and_go_back_from_any_of_them():
    wrong: list[int] = []
    handed: list[np.ndarray] = []

    def work(me: int) -> None:
        memory.install()  # a thread has a context of its own
        for k in range(400):
            a = np.full(1 + (k * 37 + me) % 2000, me, np.int64)
            b = np.full(1 + (k * 91 + me) % 50, me, np.int64)
            if (a != me).any() or (b != me).any():
                wrong.append(me)
            handed.append(a)
            if len(handed) > 20:
                handed.pop(0)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_a_forked_child_goes_on():
    code = (
        "import os, numpy as np; from kernels import memory; memory.install(); a = np.ones(100_000)\n"
        "pid = os.fork()\n"
        "b = np.full(100_000, 3.0); c = a + b\n"
        "if pid == 0: os._exit(0 if c.sum() == 400_000 else 1)\n"
        "print(os.waitpid(pid, 0)[1], c.sum())"
    )
    assert elsewhere(code) == "0 400000.0"


STEP = "import numpy._core.multiarray as numpy, kernels; {}; print(numpy.get_handler_name())"


def test_the_compiled_machine_brings_it_and_the_import_does_not():
    assert elsewhere(STEP.format("import minigrad")) == "default_allocator"
    assert elsewhere(STEP.format("kernels.machine()")) == "minigrad"
    assert elsewhere(STEP.format("kernels.machine()"), MINIGRAD_KERNELS="numpy") == "default_allocator"
    assert elsewhere(STEP.format("kernels.machine()"), MINIGRAD_MEMORY="numpy") == "default_allocator"


def test_a_choice_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("MINIGRAD_MEMORY", "huge")
    with pytest.raises(ValueError, match="MINIGRAD_MEMORY is 'huge'; it may be numpy, or not set"):
        memory.install()


def test_a_training_step_faults_no_page_once_it_has_run():
    resource = pytest.importorskip("resource", reason="page faults are counted by POSIX systems")
    code = (
        "import resource, minigrad as mg\n"
        "from minigrad.nn import functional as F\n"
        "x = mg.randn(512, 512); w = mg.randn(512, 512, requires_grad=True)\n"
        "def step():\n"
        "    y = x\n"
        "    for _ in range(8): y = F.gelu(F.linear(y, w) * 0.1)\n"
        "    y.sum().backward(); w.grad = None\n"
        "for _ in range(5): step()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(5): step()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )
    assert resource and int(elsewhere(code)) < 256  # 20 MB of activations a step are 5,000 pages
