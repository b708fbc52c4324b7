"""Saving an optimizer and going on: bit for bit, from PyTorch's state too, by name where there are names."""

import json
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from oracle import oracle
from transcriptions.libraries import doubles

import minigrad as mg
from minigrad import nn, optim

RULES = [
    ("SGD", dict(lr=0.1)),
    ("SGD", dict(lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.1)),
    ("Adam", dict(lr=0.1, amsgrad=True, weight_decay=0.1)),
    ("AdamW", dict(lr=0.1, maximize=True)),
    ("ASGD", dict(lr=0.1, lambd=0.1, t0=2)),
    ("Rprop", dict(lr=0.1)),
    ("Adagrad", dict(lr=0.1, lr_decay=0.1, initial_accumulator_value=0.5)),
    ("Adadelta", dict(lr=1.0, rho=0.5, weight_decay=0.1)),
    ("RMSprop", dict(lr=0.1, momentum=0.9, centered=True, eps=1e-3)),
    ("RMSprop", dict(lr=0.1, alpha=0.5)),
    ("Adamax", dict(lr=0.1, maximize=True)),
    ("NAdam", dict(lr=0.1, momentum_decay=0.1, decoupled_weight_decay=True, weight_decay=0.1)),
    ("RAdam", dict(lr=0.1, betas=(0.5, 0.9))),
]
SHAPES = ((3, 2), (), (5,))


def start(seed=0):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(size=s)) for s in SHAPES]


def grads(t):
    """The gradients of step t; one is missing now and then."""
    rng = np.random.default_rng(100 + t)
    return [np.asarray(rng.normal(size=s)) if (t + k) % 3 else None for k, s in enumerate(SHAPES)]


def make(lib, rule, given, values):
    params = [lib.nn.Parameter(lib.tensor(v)) for v in values]
    return params, getattr(lib.optim, rule)(params, **given)


def train(lib, params, optimizer, steps):
    for t in steps:
        for p, g in zip(params, grads(t), strict=True):
            p.grad = None if g is None else lib.tensor(g)
        optimizer.step()


def same_bits(a, b):
    for x, y in zip(a, b, strict=True):
        assert x.detach().numpy().tobytes() == y.detach().numpy().tobytes()


@pytest.mark.parametrize(("rule", "given"), RULES)
def test_2k_steps_are_k_steps_saved_loaded_and_k_more(rule, given):
    """With options that changed after the constructor, into an optimizer whose constructor had others."""
    params, optimizer = make(mg, rule, given, start())
    changed = dict(lr=0.03, weight_decay=0.2) | (dict(betas=(0.5, 0.7), eps=1e-3) if "Adam" in rule else {})
    train(mg, params, optimizer, range(7))
    optimizer.param_groups[0].update(changed, initial_lr=0.1)
    train(mg, params, optimizer, range(7, 10))
    saved = pickle.dumps(([p.detach() for p in params], optimizer.state_dict()))
    values, state = pickle.loads(saved)
    again, other = make(mg, rule, dict(lr=7.0, maximize=not given.get("maximize")), start(1))
    train(mg, again, other, range(20, 23))  # what it did before is gone
    for p, v in zip(again, values, strict=True):
        p.data = v
    other.load_state_dict(state)
    assert other.param_groups[0]["initial_lr"] == 0.1 and other.param_groups[0]["lr"] == 0.03
    train(mg, params, optimizer, range(10, 20))
    train(mg, again, other, range(10, 20))
    same_bits(params, again)
    assert list(optimizer.steps.values()) == list(other.steps.values())


@pytest.mark.oracle
@pytest.mark.parametrize(("rule", "given"), RULES)
def test_the_form_is_torchs_and_states_go_both_ways(rule, given):
    torch = oracle("torch")
    with doubles(torch):  # also in the numbers that NAdam and ASGD carry
        both_ways(torch, rule, given)


def both_ways(torch, rule, given):
    ours, mine = make(mg, rule, given, start())
    theirs, other = make(torch, rule, given, start())
    train(mg, ours, mine, range(6))
    train(torch, theirs, other, range(6))
    a, b = mine.state_dict(), other.state_dict()
    assert list(a) == list(b)
    assert a["param_groups"][0]["params"] == b["param_groups"][0]["params"]
    without_effect = {"foreach", "fused", "capturable", "differentiable"}
    assert set(b["param_groups"][0]) - set(a["param_groups"][0]) <= without_effect
    for k, slots in b["state"].items():
        mine_k = {n: getattr(v, "array", v) for n, v in a["state"][k].items()}
        assert [n for n in mine_k if n in slots] == list(slots)
        for name, value in slots.items():
            np.testing.assert_allclose(mine_k[name], value.numpy(), rtol=1e-12)
    fresh, third = make(mg, rule, {}, [p.detach().numpy().copy() for p in theirs])
    third.load_state_dict(b)
    to_torch = {
        k: {n: torch.tensor(v.array) if isinstance(v, mg.Tensor) else v for n, v in s.items()}
        for k, s in a["state"].items()
    }
    fourth_params, fourth = make(torch, rule, {}, [p.detach().numpy().copy() for p in ours])
    fourth.load_state_dict({"state": to_torch, "param_groups": a["param_groups"]})
    for lib, params, optimizer in (
        (mg, fresh, third),
        (torch, fourth_params, fourth),
        (torch, theirs, other),
    ):
        train(lib, params, optimizer, range(6, 12))
    for p, q, r in zip(fresh, theirs, fourth_params, strict=True):
        np.testing.assert_allclose(p.array, q.detach().numpy(), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(r.detach().numpy(), q.detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.oracle
def test_torchs_tensors_of_any_kind_are_understood():
    torch = oracle("torch")
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    theirs = torch.optim.Adam([p], lr=torch.tensor(0.25), betas=(torch.tensor(0.5), torch.tensor(0.75)))
    p.grad = torch.ones_like(p)
    theirs.step()
    mine = optim.Adam([mg.Parameter(mg.ones(3, dtype=mg.bfloat16))])
    mine.load_state_dict(theirs.state_dict())
    group = mine.param_groups[0]
    assert group["lr"] == 0.25 and tuple(map(float, group["betas"])) == (0.5, 0.75)
    assert type(group["lr"]) is float
    (slots,) = mine.state.values()
    assert slots["step"] == 1 and slots["exp_avg"].tolist() == [0.5] * 3


def test_a_state_is_a_copy_without_a_graph():
    p = mg.Parameter(mg.ones(2))
    optimizer = optim.Adam([p], lr=mg.tensor(0.5))
    (p**3).sum().backward(create_graph=True)
    optimizer.step()
    state = optimizer.state_dict()
    moment = state["state"][0]["exp_avg"]
    assert not moment.requires_grad and moment.is_leaf and not optimizer.state[p]["exp_avg"].requires_grad
    values = moment.tolist()
    optimizer.step()
    optimizer.param_groups[0]["lr"].fill_(0.25)
    assert moment.tolist() == values and state["param_groups"][0]["lr"].item() == 0.5


def test_state_is_shown_as_torch_has_it_and_is_not_written_to():
    p, q = (mg.Parameter(mg.ones(2)) for _ in range(2))
    optimizer = optim.Adam([p, q])
    assert len(optimizer.state) == 0 and optimizer.state[p] == {}
    p.grad = mg.ones(2)
    optimizer.step()
    assert list(optimizer.state) == [p] and q not in optimizer.state
    assert list(optimizer.state[p]) == ["step", "exp_avg", "exp_avg_sq"]
    optimizer.state[p]["exp_avg"].fill_(0)
    optimizer.state[p]["exp_avg_sq"].fill_(1)
    assert not p.arena.states[optimizer]["exp_avg"].any()  # the Tensor is the state itself
    assert p.arena.states[optimizer]["exp_avg_sq"].sum() == 2
    with pytest.raises(TypeError):
        optimizer.state[p]["step"] = 5
    with pytest.raises(TypeError):
        optimizer.state[q] = {}


def test_a_state_survives_json():
    params, optimizer = make(mg, "Adam", {}, start())
    train(mg, params, optimizer, range(4))
    state = optimizer.state_dict()
    text = json.dumps(state, default=lambda t: {"values": t.tolist()})
    read = json.loads(text)
    read["state"] = {
        k: {n: v if n == "step" else np.array(v["values"]) for n, v in s.items()}
        for k, s in read["state"].items()
    }
    again, other = make(mg, "Adam", {}, [p.array.copy() for p in params])
    other.load_state_dict(read)
    for o, ps in ((optimizer, params), (other, again)):
        train(mg, ps, o, range(4, 8))
    same_bits(params, again)


# ------------------------------------------------------------------------------------------------------ names


class Net(nn.Module):
    """The same layers, declared in the order given."""

    def __init__(self, order):
        super().__init__()
        for name in order:
            setattr(self, name, nn.Linear(3, 3))

    def forward(self, x):
        return self.c(self.b(self.a(x)))


def net_step(model, optimizer):
    optimizer.zero_grad()
    (model(mg.ones(2, 3)) ** 2).sum().backward()
    optimizer.step()


def grouped(model):
    named = list(model.named_parameters())
    return [
        {"params": [(n, p) for n, p in named if p.ndim > 1], "lr": 0.1},
        {"params": [(n, p) for n, p in named if p.ndim == 1], "weight_decay": 0.0, "lr": 0.01},
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Net.named_parameters, Net.named_parameters),
        (grouped, grouped),
        (grouped, lambda model: grouped(model)[::-1]),
    ],
    ids=["one group", "two groups", "groups in another order"],
)
def test_state_finds_its_parameter_by_name_in_another_order(before, after):
    model, other = Net("abc"), Net("cab")
    optimizer = optim.Adam(before(model))
    for _ in range(3):
        net_step(model, optimizer)
    later = optim.Adam(after(other), lr=5)
    other.load_state_dict(model.state_dict())
    later.load_state_dict(optimizer.state_dict())
    for _ in range(3):
        net_step(model, optimizer)
        net_step(other, later)
    for name, p in model.named_parameters():
        assert p.array.tobytes() == other.get_parameter(name).array.tobytes()


def test_without_names_on_both_sides_order_decides():
    model, other = Net("abc"), Net("abc")
    optimizer, later = optim.Adam(model.named_parameters()), optim.Adam(other.parameters())
    for _ in range(2):
        net_step(model, optimizer)
    later.load_state_dict(optimizer.state_dict())
    assert "param_names" not in later.param_groups[0]
    assert (
        later.state[other.c.weight]["exp_avg"].array == optimizer.state[model.c.weight]["exp_avg"].array
    ).all()
    state = later.state_dict()
    assert "param_names" not in state["param_groups"][0]
    optim.Adam(model.named_parameters()).load_state_dict(state)


# ------------------------------------------------------------------------------------------ what does not fit


def broken(change):
    """A state of Adam over SHAPES, after 3 steps, with something changed."""
    params, optimizer = make(mg, "Adam", {}, start())
    train(mg, params, optimizer, range(3))
    state = optimizer.state_dict()
    change(state)
    return state


def named_state(names, shapes=SHAPES):
    params = [mg.Parameter(mg.zeros(*s)) for s in shapes]
    return optim.Adam(list(zip(names, params, strict=True))).state_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s["param_groups"].append(s["param_groups"][0]),
            "the state has 2 parameter groups, this optimizer 1",
        ),
        (
            lambda s: s["param_groups"][0]["params"].pop(),
            "group 0 has 2 parameters in the state, here it has 3",
        ),
        (lambda s: s["state"][1].pop("exp_avg_sq"), "parameter 1 of group 0 has no 'exp_avg_sq'"),
        (lambda s: s["state"].update({2: {"step": 3}}), "parameter 2 of group 0 has no 'exp_avg'"),
        (
            lambda s: s["state"][0].update(exp_avg=mg.ones(2, 3)),
            r"'exp_avg' has shape \[2, 3\], the parameter \[3, 2\]",
        ),
        (lambda s: s["param_groups"][0].update(lr=-1), "Invalid learning rate: -1"),
        (lambda s: s["param_groups"][0].update(differentiable=True), "differentiable=True is not supported"),
        (lambda s: s["param_groups"][0].update(amsgrad=True), "has no 'max_exp_avg_sq'"),
    ],
)
def test_a_state_that_does_not_fit_raises_and_changes_nothing(change, message):
    params, optimizer = make(mg, "Adam", dict(lr=0.5), start())
    train(mg, params, optimizer, range(4))
    before = pickle.dumps((optimizer.state_dict(), optimizer.param_groups, list(optimizer.steps.values())))
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(broken(change))
    assert (
        pickle.dumps((optimizer.state_dict(), optimizer.param_groups, list(optimizer.steps.values())))
        == before
    )


def test_names_that_differ_raise_and_are_named():
    params = [mg.Parameter(mg.zeros(*s)) for s in SHAPES]
    optimizer = optim.Adam(list(zip(("w", "scale", "b"), params, strict=True)), lr=0.5)
    with pytest.raises(ValueError, match="only here: scale; only in the state: gain"):
        optimizer.load_state_dict(named_state(("w", "gain", "b")))
    state = named_state(("w", "scale", "b"))
    state["param_groups"] = [
        {**state["param_groups"][0], "params": [0, 1], "param_names": ["w", "scale"]},
        {**state["param_groups"][0], "params": [2], "param_names": ["b"]},
    ]
    regrouped = optim.Adam(
        [{"params": [("w", params[0])]}, {"params": [("scale", params[1]), ("b", params[2])]}], lr=0.5
    )
    with pytest.raises(ValueError, match="grouped otherwise; only here: none; only in the state: none"):
        regrouped.load_state_dict(state)
    assert regrouped.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize("state", [None, [], {}, {"state": {}}])
def test_what_is_no_state_raises(state):
    optimizer = make(mg, "SGD", {}, start())[1]
    with pytest.raises(TypeError, match="load_state_dict of SGD: expected what state_dict"):
        optimizer.load_state_dict(state)


def test_an_optimizer_that_goes_back_to_an_early_state_forgets_its_moments():
    params, optimizer = make(mg, "Adam", {}, start())
    early = OrderedDict(optimizer.state_dict())
    twin, other = make(mg, "Adam", {}, start())
    train(mg, params, optimizer, range(5))
    optimizer.load_state_dict(early)
    for p, v in zip(params, start(), strict=True):
        p.data = mg.tensor(v)
    assert not optimizer.state
    train(mg, params, optimizer, range(5, 10))
    train(mg, twin, other, range(5, 10))
    same_bits(params, twin)


def test_param_groups_stay_the_same_objects_for_a_scheduler_to_write_to():
    params, optimizer = make(mg, "SGD", dict(lr=1.0), start())
    group = optimizer.param_groups[0]
    optimizer.load_state_dict(make(mg, "SGD", dict(lr=0.5), start())[1].state_dict())
    assert optimizer.param_groups[0] is group and group["lr"] == 0.5
    group["lr"] = 0.0
    train(mg, params, optimizer, range(2))
    same_bits(params, [mg.tensor(v) for v in start()])
