"""Reductions and shapes on a device: on the fake CuPy the samples have the results, gradients and second
gradients they have on the host, and nothing is read back but where the size of a result depends on values.
"""

import fake_cupy
import numpy as np
import pytest
from samples import reductions, shapes

import minigrad as mg

READS = (
    "unique",
    "unique slices",
    "bincount",
    "histc",
    "repeat_interleave tensor",
)  # their docstrings say so


@pytest.fixture(scope="module")
def device():
    with fake_cupy.installed() as device:
        yield device


def flat(results):
    return [t for r in results for t in flat(r)] if isinstance(results, (tuple, list)) else [results]


def everything(sample, where):
    """Results, gradients, and gradients of the squared gradients."""
    tensors = [mg.tensor(a, device=where) for a in sample.arrays()]
    leaves = [
        t.requires_grad_()
        for k, (t, a) in enumerate(zip(tensors, sample.arrays(), strict=True))
        if sample.differentiable(k, a)
    ]
    found = flat(sample.fn(mg, *tensors))
    roots = [y for y in found if y.requires_grad]
    if roots:
        seeds = [mg.ones_like(y) for y in roots]
        first = [
            g for g in mg.grad(roots, leaves, seeds, create_graph=True, allow_unused=True) if g is not None
        ]
        found += first
        squares = [(g * g).sum() for g in first if g.requires_grad]
        if squares:
            found += [h for h in mg.grad(squares, leaves, allow_unused=True) if h is not None]
    return found


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a GPU has none; the fake computes with NumPy
@pytest.mark.parametrize("sample", reductions.SAMPLES + shapes.SAMPLES, ids=repr)
def test_samples_on_the_device_are_those_on_the_host(device, sample):
    expected = everything(sample, "cpu")
    before = len(device.host_reads)
    found = everything(sample, "cuda")
    reads = device.host_reads[before:]
    assert not reads or sample.name in READS, reads[0]
    assert all(y.is_cuda for y in found)
    for ours, theirs in zip(found, expected, strict=True):
        a, b = ours.detach().cpu(), theirs.detach()
        assert a.dtype is b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-12)
