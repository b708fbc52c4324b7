"""nn.Module: how its state is saved, loaded and copied."""

import copy
import pickle

import numpy as np
import pytest
from networks import Net

import minigrad as mg
from minigrad import nn


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
