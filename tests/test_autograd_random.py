"""Random small graphs: the fast ways of a backward pass give what the plain one gives, and differences.

With create_graph a pass goes the long way: vjps on Tensors, nothing handed over, nothing added in place. So
it judges the short ways: chains without the heap, vjps on arrays, gradients written into slots, added in
place or in a norm's launch. Both are judged by a central difference along one direction.
"""

import random

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import optim

SHAPES = [(), (1,), (3,), (4, 3), (1, 3), (4, 1), (2, 4, 3)]
ONE = {
    "neg": lambda a, r: -a,
    "tanh": lambda a, r: a.tanh(),
    "square": lambda a, r: a.tanh() ** 2,
    "turned": lambda a, r: a.transpose(-1, -2) if a.ndim > 1 else a,
    "sum": lambda a, r: a.sum(r % a.ndim, keepdim=r > 5) if a.ndim else a * 1.5,
    "mean": lambda a, r: a.mean(),
    "flat": lambda a, r: a.reshape(-1),
    "part": lambda a, r: a[r % len(a)] if a.ndim else a,
    "expand": lambda a, r: a.expand(2, *a.shape),
    "number": lambda a, r: 1 - a * 2.5,
    "itself": lambda a, r: a + a,
    "below": lambda a, r: 1 / (a * a + 2),
    "softmax": lambda a, r: F.softmax(a, -1) if a.ndim else a / 2,
}
TWO = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / (b * b + 1),
}
NORM = {
    "layer_norm": lambda a, w, b: F.layer_norm(a, (3,), w, b, 0.1),
    "rms_norm": lambda a, w, b: F.rms_norm(a, (3,), w, 0.1),
}


class Case:
    """A program over leaves, of which the last two are a norm's weight and bias."""

    def __init__(self, seed):
        self.rng = rng = random.Random(seed)
        self.shapes = [rng.choice(SHAPES) for _ in range(rng.randint(1, 3))] + [(3,), (3,)]
        values = np.random.default_rng(seed)
        self.leaves = [np.array(values.standard_normal(s)) for s in self.shapes]
        self.directions = [np.array(values.standard_normal(s)) for s in self.shapes]
        self.arena, self.passes = rng.random() < 0.5, rng.randint(1, 3)
        self.steps, length = [], rng.randint(3, 14)
        while len(self.steps) < length:
            kind = rng.choice([*ONE, *TWO, *TWO, *NORM])
            given = [self._one() for _ in range(2 if kind in TWO else 1)]
            shapes = [self.shapes[k] for k in given]
            if (kind in NORM and shapes[0][-1:] != (3,)) or (kind in TWO and not _fit(*shapes)):
                continue
            step = (kind, given, rng.randrange(12))
            shape = tuple(_run(step, [mg.zeros(s) for s in self.shapes], len(self.leaves)).shape)
            if np.prod(shape) <= 100:
                self.steps.append(step)
                self.shapes.append(shape)
        self.ends = [-1] + [rng.randrange(len(self.shapes)) for _ in range(rng.randint(0, 2))]

    def _one(self):
        """The place of an operand: mostly a recent one."""
        n = len(self.shapes)
        return n - 1 - min(int(self.rng.expovariate(0.4)), n - 1)

    def outputs(self, tensors):
        tensors = list(tensors)
        for step in self.steps:
            tensors.append(_run(step, tensors, len(self.leaves)))
        return [tensors[k] for k in self.ends]

    def value(self, moved):
        """The sum of squares of all outputs, whose seeds below are 2 y."""
        tensors = [
            mg.tensor(np.asarray(a + moved * d)) for a, d in zip(self.leaves, self.directions, strict=True)
        ]
        return sum(float((y * y).sum()) for y in self.outputs(tensors))


def _fit(a, b):
    return all(1 in (m, n) or m == n for m, n in zip(a[::-1], b[::-1], strict=False))


def _run(step, tensors, leaves):
    kind, given, r = step
    a = tensors[given[0]]
    if kind in ONE:
        return ONE[kind](a, r)
    return TWO[kind](a, tensors[given[1]]) if kind in TWO else NORM[kind](a, *tensors[leaves - 2 : leaves])


def gradients(case, create_graph):
    """The leaves' gradients after all passes; no two of them, and no seed, lie in the same memory."""
    leaves = [mg.nn.Parameter(mg.tensor(a)) for a in case.leaves]
    if case.arena and not create_graph:
        optim.SGD(leaves, lr=0.1)
    seeds = []
    for _ in range(case.passes):
        ys = case.outputs(leaves)
        asked = [y for y in ys if y.requires_grad]
        given = [(2 * y).detach() for y in asked]
        before = [g.array.copy() for g in given]
        mg.autograd.backward(asked, given, create_graph=create_graph)
        assert all(np.array_equal(g.array, b) for g, b in zip(given, before, strict=True))
        seeds += given
    held = [p.grad.array for p in leaves if p.grad is not None]
    arrays = [*held, *[p.array for p in leaves], *[g.array for g in seeds]]
    assert not any(np.shares_memory(a, b) for k, a in enumerate(held) for b in arrays[k + 1 :])
    return [None if p.grad is None else p.grad.detach().array.copy() for p in leaves]


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_fast_ways_plain_ways_and_differences_agree(first):
    for seed in range(first, first + 50):
        case = Case(seed)
        fast, plain = gradients(case, False), gradients(case, True)
        slope = 0.0
        for a, b, d in zip(fast, plain, case.directions, strict=True):
            assert (a is None) == (b is None), seed
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12, err_msg=str(seed))
                slope += float((a * d).sum()) / case.passes
        step = 1e-5
        found = (case.value(step) - case.value(-step)) / (2 * step)
        assert slope == pytest.approx(found, rel=1e-5, abs=1e-5), seed
