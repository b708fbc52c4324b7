"""nn.Module: what it knows of its parts, how its state is saved and moved, hooks, and what it prints."""

import copy
import gc
import pickle
import warnings
import weakref

import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
from minigrad import nn


def net_of(lib):
    """Two layers, a parameter of its own, a buffer that is saved and one that is not;"""
    m = lib.nn

    class Net(m.Module):
        def __init__(self):
            super().__init__()
            self.scale = m.Parameter(lib.ones(3))
            self.first = m.Linear(4, 3)
            self.second = m.Sequential(m.ReLU(), m.Linear(3, 2, bias=False))
            self.register_buffer("mean", lib.zeros(2))
            self.register_buffer("scratch", lib.zeros(1), persistent=False)
            self.register_parameter("absent", None)

        def forward(self, x):
            return self.second(self.first(x) * self.scale) + self.mean

    return Net


Net = net_of(mg)
Net.__qualname__ = "Net"  # where pickle looks for it


# --------------------------------------------------------------------------------------------- what is inside


def names(pairs):
    return [name for name, _ in pairs]


@pytest.mark.oracle
def test_names_and_order_are_torchs():
    ours, theirs = Net(), net_of(oracle("torch"))()
    for method in ("named_parameters", "named_buffers", "named_modules", "named_children"):
        assert names(getattr(ours, method)()) == names(getattr(theirs, method)()), method
    assert names(ours.named_parameters(prefix="a", recurse=False)) == ["a.scale"]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert list(ours.state_dict(prefix="net.")) == list(theirs.state_dict(prefix="net."))
    assert len(list(ours.modules())) == len(list(theirs.modules()))
    assert len(list(ours.children())) == 2
    assert ours._parameters.keys() == theirs._parameters.keys()
    assert ours._buffers.keys() == theirs._buffers.keys()
    assert ours._modules.keys() == theirs._modules.keys()


def test_a_tied_parameter_and_module_are_listed_once():
    net = Net()
    net.second[1].weight = net.tied = nn.Parameter(mg.ones(2, 3))
    net.again = net.first
    assert names(net.named_parameters()) == ["scale", "tied", "first.weight", "first.bias"]
    assert "again" not in names(net.named_modules())
    every = names(net.named_parameters(remove_duplicate=False))
    assert {"tied", "second.1.weight", "first.weight", "again.weight"} <= set(every)
    assert {"tied", "second.1.weight", "again.bias"} <= set(net.state_dict())  # under each of its names


def test_get_by_dotted_name():
    net = Net()
    assert net.get_submodule("") is net
    assert net.get_submodule("second.1") is net.second[1]
    assert net.get_parameter("second.1.weight") is net.second[1].weight
    assert net.get_buffer("mean") is net.mean
    with pytest.raises(AttributeError, match=r"get_submodule\('second.7'\): Sequential has no module '7'"):
        net.get_submodule("second.7")
    with pytest.raises(
        AttributeError, match=r"get_parameter\('first.mean'\): Linear has no parameter 'mean'"
    ):
        net.get_parameter("first.mean")
    with pytest.raises(AttributeError, match="no buffer 'scale'"):
        net.get_buffer("scale")


# ------------------------------------------------------------------------------------------------ declaration


def test_assignment_declares_and_deletion_forgets():
    net = Net()
    net.extra = nn.Parameter(mg.ones(1))
    assert "extra" in names(net.named_parameters())
    net.extra = None  # a parameter that is not there, its name still taken
    assert "extra" not in names(net.named_parameters()) and "extra" in net._parameters
    del net.extra
    assert "extra" not in net._parameters and not hasattr(net, "extra")
    net.mean = mg.ones(2)
    assert net._buffers["mean"] is net.mean
    del net.first
    assert names(net.named_children()) == ["second"]
    net.plain = mg.ones(2)  # a Tensor that is no Parameter is an attribute like any other
    assert "plain" not in net.state_dict()


def test_a_name_may_change_its_kind():
    net = Net()
    net.scale = nn.Linear(1, 1)
    assert "scale" in net._modules and "scale" not in net._parameters
    net.first = nn.Parameter(mg.ones(1))
    assert "first" in net._parameters and "first" not in net._modules


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda n: setattr(n, "scale", mg.ones(3)), TypeError, "scale is a parameter; a Parameter or None"),
        (
            lambda n: setattr(n, "first", 3),
            TypeError,
            "first is a module; a Module or None can go there, not int",
        ),
        (
            lambda n: setattr(n, "mean", 3.0),
            TypeError,
            "mean is a buffer; a Tensor or None can go there, not float",
        ),
        (lambda n: n.register_parameter("a.b", None), KeyError, "must not be empty nor contain a dot"),
        (lambda n: n.register_buffer("", None), KeyError, "must not be empty"),
        (lambda n: n.register_buffer("first", mg.ones(1)), KeyError, "already has an attribute 'first'"),
        (lambda n: n.add_module("forward", nn.ReLU()), KeyError, "already has an attribute 'forward'"),
        (lambda n: n.register_parameter("p", mg.ones(1)), TypeError, "'p' is a Tensor, not a Parameter"),
        (lambda n: n.register_buffer("p", [1]), TypeError, "'p' is a list, not a Tensor"),
        (lambda n: n.add_module("p", "x"), TypeError, "'p' is a str, not a Module"),
        (lambda n: n.register_buffer(3, None), TypeError, "the name is a int"),
        (lambda n: n.train("yes"), TypeError, "the mode is a str, not a bool"),
        (lambda n: delattr(n, "nothing"), AttributeError, "nothing"),
    ],
)
def test_what_cannot_be_declared_says_why(change, error, match):
    net = Net()
    before = names(net.named_parameters()), list(net.state_dict())
    with pytest.raises(error, match=match):
        change(net)
    assert (names(net.named_parameters()), list(net.state_dict())) == before


def test_parts_come_after_init():
    class Early(nn.Module):
        def __init__(self, part):
            self.part = part

    for part in (nn.Linear(1, 1), nn.Parameter(mg.ones(1))):
        with pytest.raises(AttributeError, match=r"Early.part: call super\(\).__init__\(\) before"):
            Early(part)


def test_a_module_without_forward_says_so():
    with pytest.raises(TypeError, match="ModuleList has no forward"):
        nn.ModuleList()(mg.ones(1))


# ----------------------------------------------------------------------------------------------- changing all


def test_train_and_eval_reach_every_module():
    net = Net()
    assert net.eval() is net and not any(m.training for m in net.modules())
    assert net.train() is net and all(m.training for m in net.modules())


def test_requires_grad_freezes_all():
    net = Net().requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())
    assert all(p.requires_grad for p in net.requires_grad_().parameters())


def test_zero_grad_forgets_or_fills():
    net = Net()
    net(mg.ones(2, 4)).sum().backward()
    kept = net.first.weight.grad
    net.zero_grad(set_to_none=False)
    assert net.first.weight.grad is kept and not kept.numpy().any()
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_apply_goes_from_the_leaves_up():
    seen = []
    net = Net()
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Linear", "ReLU", "Linear", "Sequential", "Net"]


@pytest.mark.parametrize("arena", [False, True])
@pytest.mark.parametrize(
    ("move", "dtype"),
    [
        (lambda n: n.double(), mg.float64),
        (lambda n: n.half(), mg.float16),
        (lambda n: n.bfloat16(), mg.bfloat16),
        (lambda n: n.to(mg.float64), mg.float64),
        (lambda n: n.to("cpu", mg.float64), mg.float64),
        (lambda n: n.to(device=mg.device("cpu"), dtype="float64"), mg.float64),
        (lambda n: n.to(mg.ones(1, dtype=mg.float64)), mg.float64),
        (lambda n: n.type("float64"), mg.float64),
        (lambda n: n.double().float(), mg.float32),
        (lambda n: n.cpu(), mg.float32),
    ],
)
def test_to_changes_the_same_objects(move, dtype, arena):
    net = Net()
    net.register_buffer("count", mg.tensor([3]))
    if arena:
        optimizer = mg.optim.SGD(net.parameters(), lr=0.5)
    before = list(net.parameters()), list(net.buffers())
    values = [p.detach().numpy().copy() for p in net.parameters()]
    net(mg.ones(2, 4)).sum().backward()
    gradients = [p.grad.numpy().copy() for p in net.parameters()]
    assert move(net) is net
    assert all(a is b for a, b in zip(list(net.parameters()), before[0], strict=True))
    assert all(a is b for a, b in zip(list(net.buffers()), before[1], strict=True))
    assert {p.dtype for p in net.parameters()} == {net.mean.dtype} == {dtype}
    assert net.count.dtype == mg.int64  # only floating tensors are cast
    for p, value, g in zip(net.parameters(), values, gradients, strict=True):
        np.testing.assert_allclose(p.detach().float().numpy(), value, rtol=1e-2)
        assert p.grad.dtype == dtype
        np.testing.assert_allclose(p.grad.float().numpy(), g, rtol=1e-2)
    if arena:  # the optimizer still moves these very parameters
        optimizer.step()
        for p, value, g in zip(net.parameters(), values, gradients, strict=True):
            np.testing.assert_allclose(p.detach().float().numpy(), value - 0.5 * g, rtol=1e-2, atol=1e-2)


def test_to_refuses_what_is_no_place():
    with pytest.raises(TypeError, match="parameters are floating, int64 is not"):
        Net().to(mg.int64)
    with pytest.raises(TypeError, match="unknown argument 'dtpye'"):
        Net().to(dtpye=mg.float64)
    with pytest.raises(TypeError, match="'gpu' is not supported"):
        Net().to("gpu")


def test_a_graph_from_before_a_move_does_not_go_on():
    net = Net()
    y = net(mg.ones(2, 4)).sum()
    net.double()
    with pytest.raises(RuntimeError, match="modified in place"):
        y.backward()


# ------------------------------------------------------------------------------------------------------ state


def test_state_dict_shares_memory_and_has_no_graph():
    net = Net()
    state = net.state_dict()
    assert list(state) == ["scale", "mean", "first.weight", "first.bias", "second.1.weight"]
    assert not any(t.requires_grad for t in state.values())
    with mg.no_grad():
        net.scale.mul_(3)
    assert state["scale"].numpy().tolist() == [3, 3, 3]
    assert net.state_dict(keep_vars=True)["scale"] is net.scale
    mine = {"other": 1}
    assert net.state_dict(destination=mine) is mine and "scale" in mine and "other" in mine


def test_loading_copies_into_the_same_parameters():
    one, two = Net(), Net()
    before = list(two.parameters())
    result = two.load_state_dict(one.state_dict())
    assert result.missing_keys == [] and result.unexpected_keys == []
    assert str(result) == "<All keys matched successfully>"
    assert all(a is b for a, b in zip(two.parameters(), before, strict=True))
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
        assert not np.shares_memory(a.detach().numpy(), b.detach().numpy())


def test_loading_casts_to_what_is_there():
    net = Net().double()
    net.load_state_dict(Net().state_dict())
    assert net.scale.dtype == mg.float64


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("mean"), "missing: mean"),
        (lambda s: s.update(more=mg.ones(1)), "unexpected: more"),
        (
            lambda s: s.update(scale=mg.ones(4)),
            r"scale has shape \[4\] in the dictionary, \[3\] in the module",
        ),
        (lambda s: s.update(scale=3), "scale is a int, not a Tensor"),
    ],
)
def test_loading_all_or_nothing(change, told):
    net, other = Net(), Net()
    state = {name: mg.zeros(*t.shape) for name, t in other.state_dict().items()}
    before = {name: t.numpy().copy() for name, t in net.state_dict().items()}
    change(state)
    with pytest.raises(RuntimeError, match=f"(?s)load_state_dict of Net: nothing was loaded.*{told}"):
        net.load_state_dict(state)
    for name, t in net.state_dict().items():
        np.testing.assert_array_equal(t.numpy(), before[name])


def test_loading_loosely_tells_what_it_left():
    net = Net()
    state = {"scale": mg.zeros(3), "more": mg.ones(1)}
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert missing == ["mean", "first.weight", "first.bias", "second.1.weight"] and unexpected == ["more"]
    assert not net.scale.detach().numpy().any()
    with pytest.raises(RuntimeError, match="shape"):  # shapes always
        net.load_state_dict({"scale": mg.zeros(4)}, strict=False)


def test_loading_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="assign=True would replace Parameters"):
        Net().load_state_dict(Net().state_dict(), assign=True)
    with pytest.raises(TypeError, match="expected a dictionary of tensors, not list"):
        Net().load_state_dict([])


def test_a_graph_from_before_loading_does_not_go_on():
    net = Net()
    y = net(mg.ones(2, 4)).sum()
    net.load_state_dict(Net().state_dict())
    with pytest.raises(RuntimeError, match="modified in place"):
        y.backward()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
@pytest.mark.parametrize("arena", [False, True])
def test_copies_are_whole_and_apart(copied, arena):
    net = Net()
    net.tied = net.scale
    if arena:
        mg.optim.SGD(net.parameters(), lr=0.5)
    net(mg.ones(2, 4)).sum().backward()
    other = copied(net)
    assert list(other.state_dict()) == list(net.state_dict())
    assert other.tied is other.scale and other.scale is not net.scale
    assert isinstance(other.scale, nn.Parameter) and other.scale.requires_grad
    if copied is copy.deepcopy:
        np.testing.assert_array_equal(other.scale.grad.numpy(), net.scale.grad.numpy())
    else:  # as in PyTorch, a file holds no gradients
        assert other.scale.grad is None
    with mg.no_grad():
        other.scale.mul_(3)
    assert net.scale.detach().numpy().tolist() == [1, 1, 1]
    optimizer = mg.optim.SGD(other.parameters(), lr=0.5)
    other.zero_grad()
    before = net.first.weight.detach().numpy().copy()
    other(mg.ones(2, 4)).sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(net.first.weight.detach().numpy(), before)


# ------------------------------------------------------------------------------------------------------ hooks


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


# ------------------------------------------------------------------------------------------------- containers


def test_sequential_is_a_list_with_names():
    a, b, c, d = nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 3), nn.Tanh()
    s = nn.Sequential(a, b, c)
    assert len(s) == 3 and list(s) == [a, b, c] and s[0] is a and s[-1] is c
    assert list(s[1:]) == [b, c] and isinstance(s[1:], nn.Sequential)
    assert s.append(d) is s and s[3] is d
    s[1] = d
    assert s[1] is d
    assert s.insert(1, b) is s and list(s) == [a, b, d, c, d]
    assert s.pop(2) is d and list(s._modules) == ["0", "1", "2", "3"]
    del s[-1]
    del s[0:1]
    assert list(s) == [b, c] and list(s._modules) == ["0", "1"]
    assert list(s.extend([a])) == [b, c, a] and list(s + nn.Sequential(d)) == [b, c, a, d]
    s += [d]
    assert len(s) == 4
    with pytest.raises(IndexError, match="index 9 for 4 modules"):
        s[9]
    with pytest.raises(IndexError, match="insert: index 9"):
        s.insert(9, a)


def test_sequential_by_name():
    a, b = nn.Linear(1, 2), nn.ReLU()
    s = nn.Sequential({"first": a, "then": b})
    assert s.first is a and s[1] is b and list(s.state_dict()) == ["first.weight", "first.bias"]
    assert s(mg.ones(3, 1)).shape == (3, 2)
    assert list(s[:1]._modules) == ["first"]
    del s[0]
    assert list(s._modules) == ["then"]


def test_module_list_and_dict():
    a, b, c = nn.Linear(1, 1), nn.ReLU(), nn.Tanh()
    modules = nn.ModuleList([a, b])
    modules.append(c).extend([a])
    assert list(modules) == [a, b, c, a] and list(modules[1:3]) == [b, c] and modules[-1] is a
    assert list(modules + [b]) == [a, b, c, a, b]
    table = nn.ModuleDict({"a": a})
    table["b"] = b
    table.update([("c", c)])
    assert list(table) == list(table.keys()) == ["a", "b", "c"] and "a" in table and len(table) == 3
    assert list(table.values()) == [a, b, c] and next(iter(table.items())) == ("a", a)
    assert table.pop("b") is b and "b" not in table
    del table["c"]
    with pytest.raises(KeyError):
        del table["training"]  # an attribute, but no module of it
    with pytest.raises(KeyError, match="already has an attribute 'keys'"):
        table["keys"] = a
    table.clear()
    assert len(table) == 0


def test_parameter_list():
    values = nn.ParameterList([mg.ones(2), nn.Parameter(mg.zeros(3))])
    assert len(values) == 2 and all(isinstance(p, nn.Parameter) for p in values)
    assert [tuple(p.shape) for p in values.append(mg.ones(4))] == [(2,), (3,), (4,)]
    assert list(values.state_dict()) == ["0", "1", "2"]
    values[0] = mg.ones(5)
    assert values[0].shape == (5,) and len(values[1:]) == 2
    assert "(1): Parameter containing" in repr(values)


@pytest.mark.oracle
def test_printed_as_torch_does():
    torch = oracle("torch")
    assert repr(Net()) == repr(net_of(torch)())

    def nested(m):
        return m.Sequential(
            m.ModuleList([m.Linear(1, 2), m.Identity()]), m.ModuleDict({"a": m.Flatten()}), m.ReLU()
        )

    assert repr(nested(nn)).replace("minigrad", "torch") == repr(nested(torch.nn)).replace("torch", "torch")
    assert repr(nn.Sequential()) == repr(torch.nn.Sequential())
