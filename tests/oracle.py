"""Independent implementations that results are compared with: torch, scipy, CuPy's own code generator.

    torch = oracle("torch")                        # at the top of a test module or inside a test
    F = oracle("torch.nn.functional")

Where the library is missing the test (or the whole module) is skipped and says how to get it; under
ORACLES=1, which is what CI runs, it is an error: a comparison that silently does not happen proves nothing.
"""

import importlib
import os
import re
import warnings
from types import ModuleType

import pytest

MISSING = "missing oracle"
LIBRARIES = (
    *("torch", "scipy", "cupy", "cupyx", "nvidia", "jax", "optax"),
    *("pytorch_optimizer", "schedulefree", "prodigyopt", "sklearn"),
)
_SKIP = re.compile(rf"{MISSING}|could not import '({'|'.join(LIBRARIES)})\b")


class MissingOracle(Exception):
    """An oracle that ORACLES=1 demands cannot be imported."""


def required() -> bool:
    """Whether ORACLES=1 is set: a missing oracle is then an error, not a skip."""
    return os.environ.get("ORACLES") == "1"


def oracle(name: str) -> ModuleType:
    """The module `name`; without it skips the test or module, under ORACLES=1 raises MissingOracle."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # what a foreign library warns of when imported is not ours to mend
            return importlib.import_module(name)
    except ImportError as error:
        reason = f"{MISSING} {name} ({error}): `make test ORACLES=1` installs it"
        if required():
            raise MissingOracle(reason) from error
        pytest.skip(reason, allow_module_level=True)


def is_oracle_skip(reason: str) -> bool:
    """Whether a skip was for want of an oracle, `pytest.importorskip` of one included."""
    return _SKIP.search(reason) is not None
