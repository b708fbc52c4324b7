"""The engine: graphs of any depth and form, going back twice, gradients of gradients, grad().

What the operations compute is tests/test_ops.py's; here they are only means.
"""

import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from leaves import leaf, values

import minigrad as mg

DEPTH = 50_000


# ------------------------------------------------------------------------------------------ form of the graph


def test_a_chain_of_50000_operations_goes_forward_and_back():
    x = leaf(1.0)
    y = x
    for _ in range(DEPTH):
        y = y * 1.0
    y.backward()
    assert x.grad.item() == 1.0


def test_a_chain_of_50000_operations_is_deleted_without_recursion():
    x = leaf(1.0)
    y = x
    for _ in range(DEPTH):
        y = y + 1.0
    first = weakref.ref(y.node)
    del y
    assert first() is None


def test_a_chain_of_10000_operations_is_differentiated_twice():
    x = leaf(1.0)
    y = x
    for _ in range(10_000):
        y = y * x if y.node is None else y * 1.0  # x^2, and then a long way
    (g,) = mg.grad(y, x, create_graph=True)
    assert g.item() == 2.0
    assert mg.grad(g, x)[0].item() == 2.0


def test_diamonds_add_up():
    a = leaf(3.0)
    b = a + a
    c = b + b
    d = c * b
    d.backward()
    assert a.grad.item() == 2 * 8 * 3.0


def test_a_tower_of_diamonds_is_visited_once_a_node():
    x = leaf(1.0)
    y = x
    for _ in range(60):  # 2^60 paths
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**60


def test_one_tensor_in_both_arguments():
    x = leaf([1.0, 2.0])
    (x * x).sum().backward()
    assert values(x.grad) == [[2.0, 4.0]]


def test_a_long_and_a_short_way_meet():
    """A node waits for the gradients of everything younger that used it, however far."""
    x = leaf(2.0)
    y = x * 3.0
    z = y
    for _ in range(5):
        z = z + 1.0
    (z * y).backward()
    assert x.grad.item() == 3.0 * (2 * 6.0 + 5)


def test_gradients_accumulate_over_backwards():
    x = leaf([1.0, 2.0])
    for _ in range(3):
        (x * x).sum().backward()
    assert values(x.grad) == [[6.0, 12.0]]


def test_several_roots_go_back_together():
    x, y = leaf(2.0), leaf(3.0)
    a, b = x * y, x * x
    mg.autograd.backward([a, b], [mg.tensor(1.0, dtype=mg.float64), mg.tensor(10.0, dtype=mg.float64)])
    assert values(x.grad, y.grad) == [3.0 + 40.0, 2.0]


def test_a_root_may_lie_behind_another():
    x = leaf(2.0)
    y = x * x
    z = y * 3.0
    mg.autograd.backward([z, y])
    assert x.grad.item() == 4.0 * 3.0 + 4.0


@given(
    mutually_broadcastable_shapes(num_shapes=3, max_dims=4, max_side=3, min_side=0), st.integers(0, 2**32 - 1)
)
def test_gradients_of_broadcast_operands_have_their_shapes(shapes, seed):
    """d sum(a b + c / b) by a is b summed over the axes that a was stretched along, and so on."""
    rng = np.random.default_rng(seed)
    a, b, c = (mg.tensor(rng.uniform(0.5, 2.0, s), requires_grad=True) for s in shapes.input_shapes)
    (a * b + c / b).sum().backward()
    full = [np.broadcast_to(t.detach().numpy(), shapes.result_shape) for t in (a, b, c)]
    expected = [full[1], full[0] - full[2] / full[1] ** 2, 1 / full[1]]
    for t, e in zip((a, b, c), expected, strict=True):
        assert t.grad.shape == t.shape
        lead = e.ndim - t.ndim
        axes = tuple(k for k in range(e.ndim) if k < lead or (t.shape[k - lead] == 1 != e.shape[k]))
        np.testing.assert_allclose(t.grad.numpy(), e.sum(axis=axes).reshape(t.shape), rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------------------- going back twice, second orders


def test_a_second_backward_raises():
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    y.backward()
    with pytest.raises(
        RuntimeError, match=r"sum|mul.*was freed by an earlier backward; pass retain_graph=True"
    ):
        y.backward()


@pytest.mark.parametrize("options", [{}, {"allow_unused": True}, {"materialize_grads": True}])
def test_a_second_grad_raises_and_is_not_taken_for_an_unused_input(options):
    x = leaf(3.0)
    y = x * x
    mg.grad(y, x)
    with pytest.raises(RuntimeError, match="the graph of mul was freed by an earlier backward"):
        mg.grad(y, x, **options)


def test_a_part_beside_a_freed_one_can_still_be_gone_through():
    x, w = leaf(2.0), leaf(3.0)
    y = x * x
    z = y * w
    y.backward()
    assert mg.grad(z, w)[0].item() == 4.0


def test_retain_graph_allows_a_second_backward():
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert values(x.grad) == [[4.0, 8.0]]
    with pytest.raises(RuntimeError, match="freed"):
        y.backward()


def test_create_graph_retains_the_graph():
    x = leaf(2.0)
    y = x * x * x
    mg.grad(y, x, create_graph=True)
    y.backward()
    assert x.grad.item() == 12.0


def test_create_graph_with_retain_graph_false_frees_it():
    x = leaf(2.0)
    y = x * x * x
    mg.grad(y, x, create_graph=True, retain_graph=False)
    with pytest.raises(RuntimeError, match="freed"):
        y.backward()


def test_derivatives_of_any_order():
    x = leaf(2.0)
    y = x**5
    for expected in (80.0, 160.0, 240.0, 240.0, 120.0, 0.0):
        (y,) = mg.grad(y, x, create_graph=True)
        assert y.item() == pytest.approx(expected)


def test_backward_with_create_graph_makes_a_differentiable_grad():
    x = leaf(2.0)
    (x**3).backward(create_graph=True)
    assert x.grad.requires_grad
    g, x.grad = x.grad, None
    g.backward()
    assert x.grad.item() == 12.0


def test_without_create_graph_gradients_are_plain():
    x = leaf(2.0)
    (x**3).backward()
    (g,) = mg.grad(x**3, x)
    assert not x.grad.requires_grad
    assert not g.requires_grad and g.grad_fn is None


def test_gradients_flow_into_grad_outputs():
    x, v = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    (g,) = mg.grad(x * x, x, v, create_graph=True)
    g.sum().backward()
    assert values(v.grad) == [[2.0, 4.0]]
    assert values(x.grad) == [[6.0, 8.0]]


# ---------------------------------------------------------------------------------------------------- grad()


def test_grad_leaves_grad_alone():
    x, w = leaf(2.0), leaf(3.0)
    assert mg.grad(x * w, x)[0].item() == 3.0
    assert x.grad is None and w.grad is None


def test_grad_of_computed_inputs():
    x = leaf(2.0)
    y = x * x
    z = y * y
    gy, gx = mg.grad(z, (y, x))
    assert values(gy, gx) == [8.0, 32.0]


def test_grad_of_an_input_that_is_an_output():
    x = leaf(2.0)
    y = x * x
    assert values(*mg.grad(y, (y, x))) == [1.0, 4.0]
    assert mg.grad(x, x)[0].item() == 1.0


def test_grad_of_an_input_named_twice():
    x = leaf(3.0)
    assert values(*mg.grad(x * x, (x, x))) == [6.0, 6.0]


def test_grad_of_several_outputs_adds_up():
    x = leaf([1.0, 2.0])
    (g,) = mg.grad((x.sum(), (x * x).sum()), x)
    assert values(g) == [[3.0, 5.0]]


def test_grad_of_unused_inputs():
    x, w = leaf(2.0), leaf([1.0, 2.0])
    y = x * x
    with pytest.raises(
        RuntimeError, match=r"inputs\[1\] was not used in computing outputs; allow_unused=True"
    ):
        mg.grad(y, (x, w), retain_graph=True)
    assert values(*mg.grad(y, (x, w), retain_graph=True, allow_unused=True)) == [4.0, None]
    assert values(*mg.grad(y, (x, w), materialize_grads=True)) == [4.0, [0.0, 0.0]]


def test_grad_goes_only_where_it_must():
    """No vjp is computed that does not lead to an input."""
    x, w = leaf(2.0), leaf(3.0)
    y = x * 2.0
    seen = []
    y.register_hook(seen.append)
    mg.grad(y * w, w)
    assert seen == []


def test_backward_of_inputs_fills_those_alone():
    x, w = leaf(2.0), leaf(3.0)
    y = x * w
    z = y * y
    z.backward(inputs=[w, y])
    assert x.grad is None
    assert values(w.grad, y.grad) == [2 * 6.0 * 2.0, 12.0]


def test_backward_of_inputs_counts_each_once():
    """Whoever is named twice, or keeps its gradient anyway (retain_grad), as in PyTorch."""
    x = leaf([1.0, 2.0])
    y = x * 2.0
    y.retain_grad()
    (y * y).sum().backward(inputs=[y, x, y, x])
    assert y.grad.tolist() == [4.0, 8.0] and x.grad.tolist() == [8.0, 16.0]


def test_a_pass_may_start_from_the_gradient_that_it_adds_to():
    """Both terms of y are to see x.grad as it was: 2 + (3 + 5) 2."""
    x = leaf([1.0, -1.0])
    (x * x).sum().backward()
    (x * 3.0 + x * 5.0).backward(x.grad)
    assert x.grad.tolist() == [18.0, -18.0]


def test_of_no_outputs_nothing_is_added():
    x = leaf(1.0)
    mg.autograd.backward([])
    assert mg.grad([], x, allow_unused=True) == (None,)
