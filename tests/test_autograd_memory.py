"""What a backward pass leaves behind: no cycles, no graph, no memory that two tensors share."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest
from leaves import leaf, values

import minigrad as mg
from minigrad.autograd import Node

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
