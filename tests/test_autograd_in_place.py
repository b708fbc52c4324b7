"""Changes in place between forward and backward: found where a gradient needs old values, else allowed."""

import numpy as np
import pytest
from leaves import leaf, values

import minigrad as mg

# ------------------------------------------------------------------------------------------- changes in place


def changed_leaf(x):
    with mg.no_grad():
        x.mul_(2.0)


def changed_view(x):
    with mg.no_grad():
        x[0].add_(1.0)


def changed_item(x):
    with mg.no_grad():
        x[0] = 7.0


def changed_reshape(x):
    with mg.no_grad():
        x.reshape(2, 1).transpose(0, 1)[0, 1:] = 7.0


def changed_detached(x):
    x.detach().zero_()


def changed_data(x):
    x.data = mg.zeros(2, dtype=mg.float64)


@pytest.mark.parametrize(
    "change", [changed_leaf, changed_view, changed_item, changed_reshape, changed_detached, changed_data]
)
def test_a_change_after_use_is_found(change):
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    change(x)
    with pytest.raises(RuntimeError, match="a tensor that mul needs was modified in place after it was used"):
        y.backward()
    x.grad = None
    (x * x).sum().backward()  # and computed anew it is right
    assert values(x.grad) == [(2 * x.detach()).tolist()]


def test_a_change_of_the_base_is_found_by_a_view():
    x = leaf([1.0, 2.0])
    v = x[1:]
    y = (v * v).sum()
    changed_leaf(x)
    with pytest.raises(RuntimeError, match="modified in place"):
        y.backward()


def test_a_change_of_an_output_that_the_gradient_needs_is_found():
    x = leaf([1.0, 2.0])
    y = x.exp()
    y[0] = 0.0
    with pytest.raises(RuntimeError, match="exp needs was modified in place"):
        y.sum().backward()


def test_a_change_of_what_nobody_needs_is_allowed():
    x = leaf([1.0, 2.0])
    y = x + 1.0
    changed_leaf(x)
    y.sum().backward()
    assert values(x.grad) == [[1.0, 1.0]]


def test_an_optimizer_step_between_forward_and_backward_is_found():
    x = leaf([1.0, 2.0])
    w = leaf([3.0, 4.0])
    optimizer = mg.optim.SGD([x, w], lr=0.1)
    (x * w).sum().backward()
    stale = (x * x).sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified in place"):
        stale.backward()


def test_a_computed_tensor_is_rebound_by_a_change():
    x = leaf([1.0, 2.0])
    y = x * 3.0
    y += 1.0
    y *= x.detach()
    y[1] = 5.0
    assert not y.is_leaf
    (y * y).sum().backward()
    assert values(y, x.grad) == [[4.0, 5.0], [2 * 4.0 * 3.0, 0.0]]


def test_data_takes_part_in_a_graph_by_a_change():
    w = leaf(2.0)
    y = mg.zeros(3, dtype=mg.float64)
    y[1] = w
    y += w
    y.sum().backward()
    assert w.grad.item() == 4.0


def test_leaves_and_views_in_a_graph_refuse_changes():
    x = leaf([1.0, 2.0])
    for change in (lambda: x.add_(1.0), lambda: x.__setitem__(0, 1.0), lambda: x.__iadd__(1.0)):
        with pytest.raises(
            RuntimeError, match="a leaf that requires gradients is changed in place; use no_grad"
        ):
            change()
    y = x * 2.0
    v = y[0]
    for t in (v, y):  # a view, and what is viewed
        with pytest.raises(
            RuntimeError, match="a view in a graph is changed in place; use the out-of-place form"
        ):
            t.add_(1.0)
    assert values(x, y) == [[1.0, 2.0], [2.0, 4.0]]


def test_an_in_place_function_may_look_at_its_tensor_through_views():
    x = leaf(np.arange(6.0).reshape(2, 3))
    y = x * 1.0
    for _ in range(2):
        y.index_put_((mg.tensor([0]), mg.tensor([1])), mg.tensor([9.0], dtype=mg.float64))
        y[:, 2] = 0.0
    y.sum().backward()
    assert values(x.grad) == [[[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]]
