"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib

import numpy as np
import pytest
from test_layout import ROOT, dotted, files

WITH_EXAMPLES = [dotted(path) for path in files(ROOT) if ">>> " in path.read_text()]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name):
    import minigrad

    module = importlib.import_module(name)
    names = {"mg": minigrad, "np": np} | vars(module)
    failed, tried = doctest.testmod(
        module, globs=names, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert tried > 0, f"{name}: an example that doctest does not find"
    assert failed == 0


def test_there_are_examples():
    assert "minigrad.data.embedded" in WITH_EXAMPLES
