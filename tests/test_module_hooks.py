"""nn.Module: hooks before, after and on the way back."""

import gc
import warnings
import weakref

import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
from minigrad import nn


def test_forward_hooks_see_and_replace():
    layer, x = nn.Linear(2, 2), mg.ones(1, 2)
    plain = layer(x).detach().numpy()
    seen = []
    first = layer.register_forward_pre_hook(lambda m, args: seen.append(("pre", m, args)))
    second = layer.register_forward_hook(lambda m, args, y: seen.append(("post", m, args, y)))
    y = layer(x)
    assert [s[0] for s in seen] == ["pre", "post"] and seen[0][1:] == (layer, (x,)) and seen[1][3] is y
    second.remove()
    first.remove()
    layer(x)
    assert len(seen) == 2
    doubled = layer.register_forward_pre_hook(lambda m, args: args[0] * 2)
    layer.register_forward_hook(lambda m, args, y: y * 10)
    np.testing.assert_allclose(
        layer(x).detach().numpy(), 10 * layer.forward(x * 2).detach().numpy(), rtol=1e-6
    )
    doubled.remove()
    np.testing.assert_allclose(layer(x).detach().numpy(), 10 * plain, rtol=1e-6)


def test_forward_hooks_with_kwargs_and_order():
    class Sum(nn.Module):
        def forward(self, a, b=0):
            return a + b

    module, order = Sum(), []
    module.register_forward_pre_hook(lambda m, a, k: order.append("first"), with_kwargs=True)
    module.register_forward_pre_hook(lambda m, a, k: (a, {"b": 5}), with_kwargs=True)
    module.register_forward_pre_hook(lambda m, a: order.append("zeroth"), prepend=True)
    module.register_forward_hook(lambda m, a, k, y: order.append((a, k, y)), with_kwargs=True)
    assert module(1, b=2) == 6
    assert order == ["zeroth", "first", ((1,), {"b": 5}, 6)]
    module.register_forward_pre_hook(lambda m, a, k: a, with_kwargs=True)
    with pytest.raises(TypeError, match="it returns None or"):
        module(1, b=2)


def _watched(lib, module, *inputs):
    """(grad_input, grad_output) as the backward hook saw them, and the inputs' gradients."""
    seen = []
    module.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))
    y = module(*inputs)
    loss = sum((t * t).sum() for t in (y if isinstance(y, tuple) else (y,)))
    loss.backward()
    return seen, [t.grad for t in inputs]


def host(gradients):
    return [None if g is None else np.asarray(g.detach().numpy()) for g in gradients]


def assert_same(ours, theirs):
    for a, b in zip(host(ours), host(theirs), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.oracle
@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, False)])
def test_backward_hooks_see_torchs_gradients(needs):
    torch = oracle("torch")
    a, b, w = (np.random.default_rng(k).standard_normal((3, 3)) for k in range(3))

    def module(lib, layers):
        class Both(layers.Module):
            def __init__(self):
                super().__init__()
                self.w = layers.Parameter(lib.tensor(w))

            def forward(self, a, b):
                return a @ self.w, a * b @ self.w

        return Both()

    results = []
    for lib in (mg, torch):
        inputs = [lib.tensor(v, requires_grad=n) for v, n in zip((a, b), needs, strict=True)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns where no input has a gradient
            results.append(_watched(lib, module(lib, lib.nn), *inputs))
    (ours, our_grads), (theirs, their_grads) = results
    assert len(ours) == len(theirs) == 1
    # torch shows zeros for an input beside one with a gradient; None says what is meant
    assert_same(ours[0][0], [g if n else None for g, n in zip(theirs[0][0], needs, strict=True)])
    assert_same(ours[0][1], theirs[0][1])
    assert_same(our_grads, their_grads)


def test_backward_hooks_replace_gradients():
    layer = nn.Linear(2, 2).double()
    x = mg.ones(1, 2, dtype=mg.float64, requires_grad=True)
    layer(x).sum().backward()
    plain, weight = x.grad.numpy().copy(), layer.weight.grad.numpy().copy()
    x.grad = None
    layer.zero_grad()
    pre = layer.register_full_backward_pre_hook(lambda m, go: (go[0] * 3,))
    handle = layer.register_full_backward_hook(lambda m, gi, go: (gi[0] * 5,))
    layer(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 15 * plain)
    np.testing.assert_allclose(layer.weight.grad.numpy(), 3 * weight)
    pre.remove()
    handle.remove()
    layer.register_full_backward_hook(lambda m, gi, go: (gi[0], gi[0]))
    with pytest.raises(ValueError, match="it returned 2 gradients for 1"):
        layer(x).sum().backward()


def test_backward_hooks_fire_at_every_backward_of_a_retained_graph():
    layer, seen = nn.Linear(2, 2), []
    layer.register_full_backward_hook(lambda m, gi, go: seen.append(go[0].numpy().copy()))
    y = layer(mg.ones(1, 2, requires_grad=True))
    y.backward(mg.full((1, 2), 2.0), retain_graph=True)
    y.backward(mg.full((1, 2), 3.0))
    assert [s.tolist() for s in seen] == [[[2, 2]], [[3, 3]]]


def test_a_graph_with_backward_hooks_is_no_cycle():
    class Sum(nn.Module):
        def forward(self, a, b):
            return a * b, a + b

    module = Sum()
    module.register_full_backward_hook(lambda m, gi, go: None)
    gc.collect()
    gc.disable()
    try:
        y, z = module(mg.ones(2, requires_grad=True), mg.ones(2, requires_grad=True))
        nodes = [weakref.ref(y.node), weakref.ref(z.node)]
        (y + z).sum().backward()
        del y, z
        assert [node() for node in nodes] == [None, None]
    finally:
        gc.enable()


def test_backward_hooks_do_not_watch_without_recording():
    layer = nn.Linear(2, 2)
    layer.register_full_backward_hook(lambda m, gi, go: None)
    with mg.no_grad():
        assert layer(mg.ones(1, 2)).grad_fn is None
