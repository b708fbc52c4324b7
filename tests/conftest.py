"""What every test stands on: one thread, fixed seeds, and skips that are not allowed to hide anything.

- Threads: one for BLAS and OpenMP unless the environment says otherwise. Set before NumPy is loaded.
- Seeds: Python's, NumPy's and minigrad's generators start every test in the same state.
- `gpu`: such a test is skipped with the reason where there is no CUDA device; only then is CuPy imported.
- ORACLES=1: a test or module skipped for want of an oracle is a failure.
"""

import functools
import os
import random
import sys

import pytest

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402  BLAS reads the variables when it is loaded
from oracle import is_oracle_skip, required  # noqa: E402

SEED = 20_260_101

try:
    from hypothesis import settings

    settings.register_profile("minigrad", derandomize=True, deadline=None, database=None)
    settings.load_profile("minigrad")
except ImportError:  # the GPU tests run without hypothesis
    pass


@pytest.fixture(autouse=True)
def seeds():
    random.seed(SEED)
    np.random.seed(SEED)
    if "minigrad" in sys.modules:
        sys.modules["minigrad"].manual_seed(SEED)


@pytest.fixture
def short_validation(monkeypatch):
    """Texts are judged by their first 3,000 characters: what a run is judged by takes most of a short one."""
    from minigrad import data

    whole = data.load

    def load(name, split):
        found = whole(name, split)
        return found[:3000] if split == "validation" else found

    monkeypatch.setattr(data, "load", load)


@functools.cache
def no_gpu() -> str:
    """Why there is no CUDA device here, or an empty string."""
    try:
        import cupy

        return "" if cupy.cuda.runtime.getDeviceCount() else "no CUDA device"
    except Exception as error:  # ImportError, or one of CuPy's own classes
        return f"no CUDA device: {error}"


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and no_gpu():
        pytest.skip(no_gpu())


def _fail_oracle_skip(report):
    """Turns a skip for want of an oracle into a failure under ORACLES=1."""
    if required() and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if is_oracle_skip(reason):
            report.outcome = "failed"
            report.longrepr = f"ORACLES=1, but {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    _fail_oracle_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    _fail_oracle_skip(report)
    return report
