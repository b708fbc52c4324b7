"""nn.Module: what it knows of its parts, how it is declared, changed and moved, and what it prints."""

import numpy as np
import pytest
from networks import Net, net_of
from oracle import oracle

import minigrad as mg
from minigrad import nn

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
