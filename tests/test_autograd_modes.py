"""Recording on and off, hooks, and what the engine refuses."""

import threading
import weakref

import pytest
from leaves import leaf, values

import minigrad as mg
from minigrad.grad_mode import graphs_retained

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


def test_a_hook_may_return_the_very_gradient_that_the_pass_adds_to():
    x = leaf(2.0)
    (x * 3.0).backward()
    y = x + x
    y.register_hook(lambda g: x.grad)
    y.backward()
    assert x.grad.item() == 9.0


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


def test_graphs_are_retained_inside_and_freed_where_backward_is_told_so():
    x = mg.tensor([2.0], requires_grad=True)
    with graphs_retained():
        y = (x**3).sum()
        y.backward()
        (g,) = mg.grad(y, x, create_graph=True)
        assert float(mg.grad(g, x)[0]) == 12
        z = (x**3).sum()
        z.backward(retain_graph=False)
        with pytest.raises(RuntimeError, match="freed"):
            z.backward()
    w = (x**3).sum()
    w.backward()
    with pytest.raises(RuntimeError, match="freed"):
        w.backward()
