"""Products of matrices on the compiled machine: right for every shape and layout; BLAS for the rest."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import kernels
from kernels import products

SIZES = (1, 3, 4, 6, 13, 32, 70)


@pytest.fixture(autouse=True)
def compiled():
    if kernels.machine() != "compiled":
        pytest.skip("there is no compiler")


@pytest.fixture
def ours():
    """The function itself, that says with 0 that it did the work."""
    a = np.ones((8, 8), np.float32)
    products.product(a, a)
    found = products._found[kernels.machine(), a.dtype]
    if found is products._nowhere:
        pytest.skip("the vectors of this processor are narrower than 512 bits")
    return found


def matrices(rng, rows, columns, dtype):
    """A matrix by rows, by columns, and inside a larger one."""
    yield rng.standard_normal((rows, columns)).astype(dtype)
    yield rng.standard_normal((columns, rows)).astype(dtype).T
    yield rng.standard_normal((rows + 2, columns + 5)).astype(dtype)[1:-1, 2:-3]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("depth", [1, 5, 64, 257, 600])
def test_products_are_right_for_all_sizes_and_layouts(dtype, depth):
    rng = np.random.default_rng(depth)
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    for rows, columns in itertools.product(SIZES, SIZES):
        for a in matrices(rng, rows, depth, dtype):
            for b in matrices(rng, depth, columns, dtype):
                c = products.product(a, b)
                exact = np.matmul(a, b, dtype=np.longdouble)
                bound = np.abs(a).astype(np.longdouble) @ np.abs(b)
                assert c.dtype == dtype and np.all(np.abs(c - exact) <= tolerance * bound)


def test_batches_of_views_are_multiplied_where_they_lie(ours):
    rng = np.random.default_rng(0)
    packed = rng.standard_normal((3, 10, 3, 4, 20), np.float32).transpose(2, 0, 3, 1, 4)
    q, k, v = packed  # (3, 4, 10, 20), heads of one projection
    scores = np.empty((3, 4, 10, 10), np.float32)
    assert ours((q, k.mT, scores), 1) == 0
    np.testing.assert_allclose(scores, np.matmul(q, k.mT), rtol=1e-4, atol=1e-5)
    joined = np.full((3, 10, 4, 20), np.nan, np.float32)
    assert ours((scores, v, joined.transpose(0, 2, 1, 3)), 1) == 0
    np.testing.assert_allclose(joined.transpose(0, 2, 1, 3), np.matmul(scores, v), rtol=1e-4, atol=1e-4)


def test_a_row_has_the_same_bits_in_any_batch_and_with_any_threads(ours):
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((128, 784), np.float32), rng.standard_normal((256, 784), np.float32)
    whole = np.empty((128, 256), np.float32)
    for threads in (1, 2, 5):
        assert ours((x, w.T, whole), threads) == 0
        for rows in (4, 32, 100):
            part = np.empty((rows, 256), np.float32)
            assert ours((x[:rows], w.T, part), 1) == 0
            assert np.array_equal(part, whole[:rows])


def test_what_stands_beside_a_result_is_left_alone(ours):
    rng = np.random.default_rng(2)
    for rows, columns in ((5, 7), (32, 10), (9, 33)):
        a = rng.standard_normal((rows, 40), np.float32)
        for b in (
            rng.standard_normal((40, columns), np.float32),
            rng.standard_normal((columns, 40), np.float32).T,
        ):
            room = np.full((rows + 2, columns + 8), 7, np.float32)
            assert ours((a, b, room[1:-1, 3 : 3 + columns]), 1) == 0
            room[1:-1, 3 : 3 + columns] = 7
            assert np.all(room == 7)


def test_what_does_not_apply_is_left_to_blas(ours):
    a = np.ones((8, 8), np.float32)
    out = np.empty((8, 8), np.float32)
    assert ours((a, a, out), 1) == 0 and np.all(out == 8)
    frozen = out.copy()
    frozen.flags.writeable = False
    refused = [
        (a, a, a),  # the result would overwrite a factor
        (a, a, frozen),
        (a, a, out.T),  # its rows have gaps
        (a[::-1], a, out),
        (a, np.ones((16, 16), np.float32)[::2, ::2], out),  # neither rows nor columns without gaps
        (a, a[:7], out),  # no product
        (a[:2], a, out[:2]),  # a handful of rows: nothing to gain
        (a, a.astype(np.float64), out),
        (a, a, out.astype(np.float64)),
        (a.tolist(), a, out),
    ]
    for arrays in refused:
        assert ours(arrays, 1) == 1
