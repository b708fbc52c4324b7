"""Tensors to differentiate by, and their values as lists: means of the tests of the engine."""

import minigrad as mg


def leaf(*values, dtype=mg.float64):
    return mg.tensor(values if len(values) != 1 else values[0], dtype=dtype, requires_grad=True)


def values(*tensors):
    return [None if t is None else t.tolist() for t in tensors]
