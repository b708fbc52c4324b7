"""The engine: graphs of any depth and form, what backward leaves behind, and what it refuses.

What the operations compute is tests/test_ops.py's; here they are only means.
"""

import gc
import threading
import tracemalloc
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

import minigrad as mg
from minigrad.autograd import Node

DEPTH = 50_000


def leaf(*values, dtype=mg.float64):
    return mg.tensor(values if len(values) != 1 else values[0], dtype=dtype, requires_grad=True)


def values(*tensors):
    return [None if t is None else t.tolist() for t in tensors]


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


# ---------------------------------------------------------------------------------------- what is left behind


def live():
    """How many nodes and tensors there are, found without collecting any."""
    return sum(issubclass(type(o), (Node, mg.Tensor)) for o in gc.get_objects())


def assert_flat(step):
    """200 steps with the collector off leave as much behind as 20: nothing waits for it.

    A step works on arrays of some kilobytes, so that one of them kept by each step is seen.
    """
    gc.collect()
    gc.disable()
    try:
        tracemalloc.start()
        for _ in range(20):
            step()
        before, first = live(), tracemalloc.get_traced_memory()[0]
        for _ in range(180):
            step()
        grown = tracemalloc.get_traced_memory()[0] - first
        assert live() == before
        assert grown < 300_000, f"{grown} bytes after 180 steps"  # CPython keeps small tuples for reuse
    finally:
        tracemalloc.stop()
        gc.enable()


def small_net():
    rng = np.random.default_rng(0)
    return [mg.tensor(rng.standard_normal(s), requires_grad=True) for s in ((4, 8), (8,), (8, 1))]


def test_training_leaves_no_reference_cycles():
    w, b, v = small_net()
    x = mg.randn(256, 4, dtype=mg.float64)

    def step():
        loss = (((x @ w + b).tanh() @ v) ** 2).mean()
        loss.backward()
        with mg.no_grad():
            for p in (w, b, v):
                p -= 0.01 * p.grad
                p.grad = None

    assert_flat(step)


def test_training_with_an_optimizer_leaves_no_reference_cycles():
    params = small_net()
    w, b, v = params
    x = mg.randn(256, 4, dtype=mg.float64)
    optimizer = mg.optim.AdamW(params, lr=1e-3)

    def step():
        optimizer.zero_grad()
        (((x @ w + b).relu() @ v) ** 2).mean().backward()
        optimizer.step()

    assert_flat(step)


def test_second_order_leaves_no_reference_cycles():
    params = small_net()
    w, b, v = params
    x = mg.randn(256, 4, dtype=mg.float64)

    def step():
        loss = (((x @ w + b).tanh().exp() @ v) ** 2).mean()
        gradients = mg.grad(loss, params, create_graph=True)
        product = sum((g * g.detach()).sum() for g in gradients)
        mg.grad(product, params)

    assert_flat(step)


def test_hvp_leaves_no_reference_cycles():
    x = mg.randn(1000, dtype=mg.float64)
    v = mg.randn(1000, dtype=mg.float64)
    assert_flat(lambda: mg.hvp(lambda t: (t.exp() * t.sin()).sum(), x, v))


def test_a_graph_never_gone_through_leaves_no_reference_cycles():
    x = leaf(np.ones(1000))
    assert_flat(lambda: (x.exp() / x).sum())


def test_backward_frees_what_the_graph_held():
    x = leaf(np.ones(1000))
    y = x.exp()
    z = y * y
    held = weakref.ref(y)
    del y
    loss = z.sum()
    assert held() is not None  # the product needs it
    loss.backward()
    assert held() is None  # though the loss is still there


def test_gradients_share_no_memory():
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    seed = mg.tensor([1.0, 1.0], dtype=mg.float64)
    (a + b).backward(seed)
    a.grad += 100.0
    assert values(b.grad, seed) == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize("create_graph", [False, True])
def test_results_of_grad_share_no_memory(create_graph):
    a, b, c = leaf([1.0, 2.0]), leaf([3.0, 4.0]), leaf([[1.0], [2.0]])
    seed = mg.tensor([1.0, 1.0], dtype=mg.float64)
    y = a + b + c.reshape(2) + a.detach()
    found = mg.grad(y, (a, b, c, a), seed, create_graph=create_graph)
    for k, g in enumerate(found):
        with mg.no_grad():
            g += 100.0
        others = [seed, *found[:k], *found[k + 1 :]]
        assert not any(np.shares_memory(g.numpy(), o.numpy()) for o in others)
    assert values(seed) == [[1.0, 1.0]]


def test_the_first_gradient_is_never_changed():
    """The 1 that a backward starts from is kept for the next; nobody may get hold of it."""
    for create_graph in (False, True):
        x, y = leaf(1.0), leaf(2.0)
        (x + y).backward(create_graph=create_graph)
        with mg.no_grad():
            x.grad.zero_()
        assert y.grad.item() == 1.0
        mg.grad(x + y, x, create_graph=create_graph)[0].detach().zero_()
        z = x + y
        z.register_hook(lambda g: g.detach().zero_())
        z.backward()
    assert mg.grad(leaf(5.0) * 1.0 + (w := leaf(1.0)), w)[0].item() == 1.0


def test_accumulation_does_not_change_an_earlier_graph():
    """A gradient made with create_graph is part of a graph: adding to .grad makes a new one."""
    x = leaf([1.0, 2.0])
    (x**3).sum().backward(create_graph=True)
    first = x.grad
    kept = first.detach().clone()
    (x * x).sum().backward()
    assert values(first) == values(kept)
    assert values(x.grad) == [[3.0 + 2.0, 12.0 + 4.0]]
    assert not x.grad.requires_grad


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


# --------------------------------------------------------------------------------------- recording on and off


def test_no_grad_records_nothing():
    x = leaf(2.0)
    with mg.no_grad():
        y = x * x
        assert not mg.is_grad_enabled()
    assert not y.requires_grad and y.is_leaf
    assert mg.is_grad_enabled()


def test_modes_are_restored_after_an_exception():
    with pytest.raises(KeyError), mg.no_grad():
        raise KeyError
    assert mg.is_grad_enabled()

    @mg.no_grad()
    def failing():
        raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert mg.is_grad_enabled()
    x = leaf(1.0)
    y = x * 2.0
    y.register_hook(lambda g: 1 / 0)
    for create_graph in (False, True):
        with pytest.raises(ZeroDivisionError):
            y.backward(retain_graph=True, create_graph=create_graph)
        assert mg.is_grad_enabled()
        with mg.no_grad(), pytest.raises(ZeroDivisionError):
            y.backward(retain_graph=True, create_graph=create_graph)


def test_modes_nest():
    x = leaf(2.0)
    with mg.no_grad():
        with mg.enable_grad():
            assert (x * x).requires_grad
            with mg.no_grad():
                assert not (x * x).requires_grad
            assert (x * x).requires_grad
        assert not (x * x).requires_grad
        with mg.set_grad_enabled(True):
            assert (x * x).requires_grad
    mg.set_grad_enabled(False)
    try:
        assert not mg.is_grad_enabled()
    finally:
        mg.set_grad_enabled(True)
    switch = mg.no_grad()
    with switch, switch:
        assert not mg.is_grad_enabled()
    assert mg.is_grad_enabled()
    with mg.inference_mode(), mg.inference_mode(False):
        assert not mg.is_grad_enabled()


def test_modes_decorate_functions():
    x = leaf(2.0)

    @mg.no_grad()
    def with_call(t):
        """Squares."""
        return t * t

    @mg.no_grad
    def without_call(t):
        return t * t

    @mg.enable_grad()
    def recorded(t):
        return t * t

    assert not with_call(x).requires_grad and not without_call(x).requires_grad
    assert with_call.__doc__ == "Squares." and with_call.__name__ == "with_call"
    with mg.no_grad():
        assert recorded(x).requires_grad
    assert mg.is_grad_enabled()


def test_a_decorated_generator_is_off_only_while_it_runs():
    @mg.no_grad()
    def batches():
        sent = None
        try:
            while True:
                assert not mg.is_grad_enabled()
                sent = yield sent
        except KeyError:
            assert not mg.is_grad_enabled()
            yield "caught"

    running = batches()
    assert next(running) is None
    assert mg.is_grad_enabled()
    assert running.send(5) == 5
    assert mg.is_grad_enabled()
    assert running.throw(KeyError()) == "caught"
    assert mg.is_grad_enabled()
    with pytest.raises(StopIteration):
        next(running)


def test_each_thread_has_its_own_mode():
    seen, entered, leave = [], threading.Event(), threading.Event()

    def other():
        seen.append(mg.is_grad_enabled())
        with mg.no_grad():
            entered.set()
            leave.wait(10)

    with mg.no_grad():
        thread = threading.Thread(target=other)
        thread.start()
        entered.wait(10)
    seen.append(mg.is_grad_enabled())
    leave.set()
    thread.join()
    assert seen == [True, True]


def test_backward_in_threads_at_once():
    def work(k, out):
        x = leaf(float(k))
        for _ in range(200):
            (x * x * x).backward()
        out[k] = x.grad.item()

    out = {}
    threads = [threading.Thread(target=work, args=(k, out)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert out == {k: pytest.approx(600.0 * k * k) for k in range(4)}


# ------------------------------------------------------------------------------------------------------ hooks


def test_a_hook_of_a_leaf_sees_the_whole_gradient_once():
    x = leaf(2.0)
    seen = []
    x.register_hook(lambda g: seen.append(g.item()))
    (x * x + x).backward()
    assert seen == [5.0]
    assert x.grad.item() == 5.0


def test_a_hook_of_a_computed_tensor_replaces_its_gradient():
    x = leaf(2.0)
    y = x * 3.0
    y.register_hook(lambda g: g * 10.0)
    y.register_hook(lambda g: g + 1.0)  # in the order of registration
    (y * y).backward()
    assert x.grad.item() == (12.0 * 10.0 + 1.0) * 3.0


def test_a_hook_of_a_leaf_replaces_its_gradient():
    x = leaf(2.0)
    x.register_hook(lambda g: -g)
    (x * x).backward()
    assert x.grad.item() == -4.0
    assert mg.grad(x * x, x)[0].item() == -4.0


def test_a_hook_may_change_its_gradient_in_place_without_harm():
    x, w = leaf(2.0), leaf(3.0)
    y = x * 1.0
    y.register_hook(lambda g: g.mul_(100.0) and None)
    (y + w).backward()
    assert values(x.grad, w.grad) == [100.0, 1.0]


def test_hooks_are_removed():
    x = leaf(2.0)
    seen = []
    handle = x.register_hook(seen.append)
    handle.remove()
    handle.remove()
    with x.register_hook(seen.append):
        (x * x).backward()
    (x * x).backward()
    assert len(seen) == 1


def test_hooks_are_part_of_the_graph_with_create_graph():
    x = leaf(2.0)
    y = x * x
    y.register_hook(lambda g: g * x)
    (g,) = mg.grad(y, x, create_graph=True)
    assert g.item() == 8.0
    assert mg.grad(g, x)[0].item() == 8.0


def test_retain_grad_fills_grad_of_a_computed_tensor():
    x = leaf(2.0)
    y = x * 3.0
    y.retain_grad()
    y.register_hook(lambda g: g * 2.0)
    z = y * y
    z.backward()
    assert values(y.grad, x.grad) == [24.0, 72.0]
    assert z.grad is None


def test_retain_grad_keeps_no_tensor_alive():
    x = leaf(2.0)
    y = x * 3.0
    y.retain_grad()
    z = y + 1.0
    gone = weakref.ref(y)
    del y
    assert gone() is None
    z.backward()
    assert x.grad.item() == 3.0


# --------------------------------------------------------------------------------------------------- refusals


def test_what_backward_refuses():
    x = leaf([1.0, 2.0])
    with pytest.raises(RuntimeError, match=r"starts? from a scalar, the output has shape \(2,\)"):
        (x * x).backward()
    with pytest.raises(RuntimeError, match="does not require gradients"):
        mg.ones(()).backward()
    with pytest.raises(ValueError, match=r"float64\[3\] for an output float64\[2\]"):
        (x * x).backward(mg.ones(3, dtype=mg.float64))
    with pytest.raises(ValueError, match=r"float32\[2\] for an output float64\[2\]"):
        (x * x).backward(mg.ones(2))
    with pytest.raises(ValueError, match="2 outputs but 1 gradients"):
        mg.autograd.backward([x * x, x * x], [mg.ones(2)])
    with pytest.raises(ValueError, match="inputs is empty"):
        (x * x).sum().backward(inputs=[])
    with pytest.raises(RuntimeError, match=r"inputs\[0\] does not require gradients"):
        mg.grad((x * x).sum(), mg.ones(2))
    with pytest.raises(ValueError, match="materialize_grads"):
        mg.grad((x * x).sum(), x, allow_unused=False, materialize_grads=True)


def test_what_asking_for_gradients_refuses():
    with pytest.raises(TypeError, match="only floating tensors have gradients, this is int64"):
        mg.arange(3).requires_grad_()
    y = leaf(1.0) * 2.0
    with pytest.raises(RuntimeError, match=r"use detach\(\)"):
        y.requires_grad_(False)
    for ask in (lambda t: t.register_hook(print), lambda t: t.retain_grad()):
        with pytest.raises(RuntimeError, match="does not require gradients"):
            ask(mg.ones(()))


def test_an_operation_names_itself_in_an_error():
    with pytest.raises(ValueError, match=r"add\(float32\[2\], float32\[3\]\): .*broadcast"):
        mg.ones(2) + mg.ones(3)


def test_leaves_and_computed_tensors_know_what_they_are():
    x = leaf(1.0)
    y = x * 2.0
    z = y.detach()
    assert x.is_leaf and x.grad_fn is None
    assert not y.is_leaf and "mul" in repr(y.grad_fn)
    assert z.is_leaf and not z.requires_grad
    y.detach_()
    assert y.is_leaf and not y.requires_grad
    assert not (mg.ones(2) * 2.0).requires_grad
