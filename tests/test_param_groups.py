"""param_groups: what decays and what does not."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim


class Net(nn.Module):
    """One of each: an embedding tied to the output, a convolution, all norms, a bias of two dimensions."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.conv = nn.Conv2d(1, 2, 3)
        self.batch = nn.BatchNorm2d(2)
        self.layer = nn.LayerNorm((3, 4))  # its weight and bias have two dimensions
        self.group = nn.GroupNorm(1, 2)
        self.rms = nn.RMSNorm(4)
        self.linear = nn.Linear(4, 5)
        self.gru = nn.GRU(4, 3)
        self.attention = nn.MultiheadAttention(4, 2)
        self.head = nn.Linear(4, 7)
        self.head.weight = self.embedding.weight
        self.scale = nn.Parameter(mg.ones(()))
        self.place = Place()


class Place(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(mg.ones(3, 4)), nn.Parameter(mg.ones(3, 4))


DECAYS = {
    "embedding.weight",  # with head.weight: one parameter, counted once
    "conv.weight",
    "linear.weight",
    "gru.weight_ih_l0",
    "gru.weight_hh_l0",
    "attention.in_proj_weight",
    "attention.out_proj.weight",
    "place.weight",
}


def split(model, *args, **options):
    groups = optim.param_groups(model, *args, **options)
    return [dict(group["params"]) for group in groups], groups


def test_norms_biases_and_vectors_do_not_decay_whatever_their_shape():
    model = Net()
    (decaying, others), groups = split(model, 0.1)
    assert set(decaying) == DECAYS
    assert [g["weight_decay"] for g in groups] == [0.1, 0.0]
    everything = dict(model.named_parameters())
    assert set(decaying) | set(others) == set(everything) and not set(decaying) & set(others)
    for name, p in (decaying | others).items():
        assert p is everything[name]
    assert {"layer.weight", "layer.bias", "place.bias", "scale"} <= set(others)


def test_a_tied_parameter_that_one_owner_keeps_out_stays_out():
    model = Net()
    model.place.bias = model.linear.weight
    (decaying, others), _ = split(model, 0.1)
    assert "linear.weight" in others and "linear.weight" not in decaying


def test_frozen_parameters_and_groups_without_any_are_left_out():
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    model[0].weight.requires_grad_(False)
    (only,), (group,) = split(model, 0.1)
    assert set(only) == {"0.bias", "1.weight", "1.bias"} and group["weight_decay"] == 0.0


def test_options_and_names_go_to_both_groups_and_only_one_of_them_shrinks():
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    optimizer = optim.AdamW(optim.param_groups(model, 0.5, lr=0.1))
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.1]
    assert optimizer.param_groups[0]["param_names"] == ["0.weight"]
    before = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = mg.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        shrunk = before[name] * (1 - 0.1 * 0.5) if name == "0.weight" else before[name]
        np.testing.assert_allclose(p.detach().numpy(), shrunk, rtol=1e-6)


@pytest.mark.parametrize("bad", [-0.1, float("nan"), "much"])
def test_a_decay_that_makes_no_sense_is_refused(bad):
    with pytest.raises(ValueError, match=f"param_groups: Invalid weight_decay value: {bad}"):
        optim.param_groups(nn.Linear(2, 2), bad)
