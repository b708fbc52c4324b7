"""The tests' own rules: a missing oracle skips, under ORACLES=1 fails; gpu tests skip; seeds are fixed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def outcome(folder, test, *arguments, **variables):
    """Runs pytest on one test file with this conftest; its exit status and output."""
    for name in ("conftest.py", "oracle.py"):
        shutil.copy(HERE / name, folder)
    (folder / "pytest.ini").write_text(
        "[pytest]\nmarkers =\n  gpu: needs a GPU\n  slow: slow\nfilterwarnings = error\n"
    )
    (folder / "test_it.py").write_text(test)
    kept = {k: v for k, v in os.environ.items() if k != "ORACLES" and not k.endswith("_NUM_THREADS")}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=kept | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return run.returncode, run.stdout


IN_A_TEST = "from oracle import oracle\ndef test(): oracle('no_such_library')\n"
IN_A_MODULE = "from oracle import oracle\noracle('no_such_library')\ndef test(): pass\n"
BY_PYTEST = "import pytest\ndef test(): pytest.importorskip('scipy')\n"
BY_PYTEST_IN_A_MODULE = "import pytest\npytest.importorskip('scipy')\ndef test(): pass\n"
WITHOUT_SCIPY = "raise ModuleNotFoundError('no scipy here', name='scipy')\n"


@pytest.mark.parametrize("test", [IN_A_TEST, IN_A_MODULE, BY_PYTEST, BY_PYTEST_IN_A_MODULE])
def test_a_missing_oracle_is_a_skip_and_under_oracles_a_failure(tmp_path, test):
    (tmp_path / "scipy.py").write_text(WITHOUT_SCIPY)
    status, printed = outcome(tmp_path, test + "def test_other(): pass\n")
    assert (status in (0, 5), "1 skipped" in printed) == (True, True), printed
    if test in (IN_A_TEST, IN_A_MODULE):
        assert "missing oracle no_such_library" in printed and "`make test ORACLES=1` installs it" in printed
    status, printed = outcome(tmp_path, test, ORACLES="1")
    assert status in (1, 2) and "skipped" not in printed, printed
    assert "no_such_library" in printed or "ORACLES=1, but" in printed


def test_other_skips_stay_skips_under_oracles(tmp_path):
    status, printed = outcome(
        tmp_path, "import pytest\ndef test(): pytest.skip('not on Windows')\n", ORACLES="1"
    )
    assert status == 0 and "1 skipped" in printed


def test_an_oracle_that_is_there_is_returned(tmp_path):
    test = "from oracle import oracle\nimport json.decoder\n"
    test += "def test(): assert oracle('json.decoder') is json.decoder\n"
    assert outcome(tmp_path, test, ORACLES="1")[0] == 0


def test_a_gpu_test_is_skipped_where_there_is_none(tmp_path):
    (tmp_path / "cupy.py").write_text("raise ModuleNotFoundError('no cupy here')\n")
    status, printed = outcome(tmp_path, "import pytest\n@pytest.mark.gpu\ndef test(): assert False\n")
    assert status == 0 and "no CUDA device: no cupy here" in printed


def test_cupy_is_imported_only_for_gpu_tests(tmp_path):
    (tmp_path / "cupy.py").write_text("raise SystemExit('imported')\n")
    test = "import pytest, sys\n@pytest.mark.gpu\ndef test_gpu(): pass\n"
    test += "def test(): assert 'cupy' not in sys.modules\n"
    status, printed = outcome(tmp_path, test, "-m", "not gpu")
    assert status == 0 and "1 passed, 1 deselected" in printed


def test_every_test_starts_from_the_same_seeds(tmp_path):
    test = "import random, numpy as np, pytest\nseen = []\n@pytest.mark.parametrize('time', [1, 2])\n"
    test += (
        "def test(time):\n  seen.append((random.random(), np.random.rand()))\n  assert seen[0] == seen[-1]\n"
    )
    assert outcome(tmp_path, test)[0] == 0


def test_threads_are_one_unless_the_environment_says(tmp_path):
    test = "from os import environ\n"
    test += "def test(): assert (environ['OMP_NUM_THREADS'], environ['MKL_NUM_THREADS']) == ('3', '1')\n"
    assert outcome(tmp_path, test, OMP_NUM_THREADS="3")[0] == 0
