"""Arguments of optimizers are PyTorch's, and so are their errors, prints, and the rules that users write."""

import inspect

import numpy as np
import pytest
from oracle import oracle
from test_optim import TORCHS
from test_rules import SHAPES, close, gradients

import minigrad as mg
from minigrad import optim


def own_options(rule):
    """The options that a rule has beyond torch's."""
    mine, theirs = (inspect.signature(getattr(lib.optim, rule)).parameters for lib in (mg, oracle("torch")))
    return [p for name, p in mine.items() if name not in theirs]


@pytest.mark.oracle
def test_every_rule_of_the_registry_that_torch_has_is_compared_with_it():
    torch = oracle("torch")
    assert [name for name in optim.zoo if hasattr(torch.optim, name)] == TORCHS


@pytest.mark.oracle
@pytest.mark.parametrize("rule", TORCHS)
def test_arguments_and_defaults_are_torchs(rule):
    torch = oracle("torch")
    mine, theirs = (
        [(p.name, p.kind, p.default) for p in inspect.signature(getattr(lib.optim, rule)).parameters.values()]
        for lib in (mg, torch)
    )
    assert mine[: len(theirs)] == theirs
    assert [p.name for p in own_options(rule)] == [name for name, *_ in mine[len(theirs) :]]
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in own_options(rule))
    p = mg.Parameter(mg.zeros(1))
    with pytest.raises(TypeError, match="unexpected keyword argument 'learning_rate'"):
        getattr(optim, rule)([p], learning_rate=1)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("rule", "given"),
    [
        ("SGD", dict(lr=-1)),
        ("SGD", dict(momentum=-0.5)),
        ("SGD", dict(weight_decay=-0.1)),
        ("SGD", dict(nesterov=True)),
        ("SGD", dict(nesterov=True, momentum=0.9, dampening=0.1)),
        ("Adam", dict(lr=-1e-3)),
        ("Adam", dict(eps=-1e-8)),
        ("Adam", dict(betas=(1.0, 0.999))),
        ("Adam", dict(betas=(0.9, -0.5))),
        ("Adam", dict(weight_decay=-1)),
        ("AdamW", dict(weight_decay=-1)),
        ("ASGD", dict(lr=-1)),
        ("ASGD", dict(weight_decay=-1)),
        ("Rprop", dict(lr=-1)),
        ("Rprop", dict(etas=(1.5, 1.2))),
        ("Rprop", dict(etas=(0.5, 0.9))),
        ("Adagrad", dict(lr_decay=-1)),
        ("Adagrad", dict(initial_accumulator_value=-0.5)),
        ("Adagrad", dict(eps=-1)),
        ("Adadelta", dict(rho=-1)),
        ("Adadelta", dict(rho=1.5)),
        ("RMSprop", dict(alpha=-1)),
        ("RMSprop", dict(momentum=-1)),
        ("RMSprop", dict(eps=-1)),
        ("Adamax", dict(betas=(0.9, 1.0))),
        ("NAdam", dict(momentum_decay=-1)),
        ("NAdam", dict(betas=(-0.1, 0.9))),
        ("RAdam", dict(weight_decay=-1)),
    ],
)
def test_values_out_of_range_raise_what_torch_raises(rule, given):
    torch = oracle("torch")
    with pytest.raises(ValueError) as theirs:
        getattr(torch.optim, rule)([torch.zeros(1)], **given)
    with pytest.raises(ValueError) as mine:
        getattr(optim, rule)([mg.zeros(1)], **given)
    assert str(theirs.value) in str(mine.value)
    assert str(mine.value).startswith(f"{rule}: ")
    with pytest.raises(ValueError, match=str(mine.value)[:20]):  # in a group as well, which torch lets pass
        getattr(optim, rule)([{"params": [mg.zeros(1)]} | given])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(lr="0.1"), "Invalid learning rate: 0.1; it must be a number of at least 0"),
        (dict(lr=float("nan")), "Invalid learning rate: nan"),
        (dict(lr=None), "Invalid learning rate: None"),
        (dict(lr=[1]), "Invalid learning rate"),
        (dict(lr=mg.ones(2)), "must be 1-element"),
        (dict(betas=0.9), "two numbers"),
        (dict(betas=(0.9,)), "two numbers"),
        (dict(differentiable=True), "differentiable=True is not supported"),
    ],
)
def test_values_of_another_kind_raise(given, message):
    with pytest.raises(ValueError, match=message):
        optim.Adam([mg.zeros(1)], **given)
    optimizer = optim.Adam([mg.zeros(1)])
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": mg.zeros(1)} | given)
    assert len(optimizer.param_groups) == 1


def test_adamw_stays_adamw():
    with pytest.raises(ValueError, match=r"optim\.Adam"):
        optim.AdamW([{"params": [mg.zeros(1)], "decoupled_weight_decay": False}])


@pytest.mark.oracle
@pytest.mark.parametrize(
    "params",
    [
        lambda m, p, q: p,
        lambda m, p, q: [],
        lambda m, p, q: iter(()),
        lambda m, p, q: [{"params": {p, q}}],
        lambda m, p, q: [p, 3.0],
        lambda m, p, q: ["weight"],
        lambda m, p, q: 5,
        lambda m, p, q: {"params": [p]},
        lambda m, p, q: [p, q * 2],
        lambda m, p, q: [{"params": [p]}, {"params": [q, p]}],
        lambda m, p, q: [("p", p), q],
        lambda m, p, q: [{"params": [("p", p)]}, {"params": [q]}],
        lambda m, p, q: [{"params": [p]}, q],
    ],
)
def test_what_cannot_be_optimized_raises_as_in_torch(params):
    torch = oracle("torch")
    raised = []
    for lib in (torch, mg):
        p, q = (lib.zeros(2).requires_grad_() for _ in range(2))
        with pytest.raises((TypeError, ValueError)) as info:
            lib.optim.SGD(params(lib, p, q))
        raised.append(info.type)
    assert raised[0] is raised[1], info.value


def test_what_else_cannot_be_optimized():
    p, q = mg.zeros(2), mg.zeros(2)
    with pytest.raises(TypeError, match="set, whose order changes"):
        optim.SGD({p, q})
    with pytest.raises(TypeError, match=r"params\[1\] is int64; only floating"):
        optim.SGD([p, mg.zeros(2, dtype=mg.int64)])
    with pytest.raises(TypeError, match="a dict with 'params'"):
        optim.SGD([{"parameters": [p]}])
    with pytest.raises(ValueError, match="called w; names must be unique"):
        optim.SGD([("w", p), ("w", q)])
    with pytest.raises(ValueError, match="'w' was computed"):
        optim.SGD([("w", p.requires_grad_() * 1)])
    assert p.arena is None  # what was refused was left alone


def test_a_duplicate_is_updated_once_with_a_warning():
    p = mg.Parameter(mg.ones(3))
    with pytest.warns(UserWarning, match="duplicate parameters") as record:
        optimizer = optim.SGD([p, p], lr=0.5)
    assert record[0].filename == __file__
    p.grad = mg.ones(3)
    optimizer.step()
    assert p.tolist() == [0.5] * 3


def test_params_come_in_many_forms():
    layer = mg.nn.Linear(2, 3)
    for params in (
        layer.parameters(),
        list(layer.parameters()),
        tuple(layer.parameters()),
        layer.named_parameters(),
        [{"params": layer.parameters()}],
        [{"params": layer.weight}, {"params": [layer.bias]}],
        dict(layer.named_parameters()).items(),
    ):
        assert [id(p) for p in optim.SGD(params).parameters()] == [id(layer.weight), id(layer.bias)]
    assert optim.SGD(layer.named_parameters()).param_groups[0]["param_names"] == ["weight", "bias"]


def test_groups_that_were_given_are_left_as_they_are_and_keep_keys_of_the_user():
    p = mg.zeros(2)
    group = {"params": iter([p]), "lr": 0.5, "lr_scale": 2, "initial_lr": 0.5}
    optimizer = optim.SGD([group], momentum=0.1)
    assert set(group) == {"params", "lr", "lr_scale", "initial_lr"}
    mine = optimizer.param_groups[0]
    assert (mine["lr"], mine["lr_scale"], mine["initial_lr"], mine["momentum"]) == (0.5, 2, 0.5, 0.1)


@pytest.mark.parametrize("name", ["foreach", "fused", "capturable"])
def test_options_about_speed_are_accepted_and_without_effect(name):
    p = mg.Parameter(mg.ones(3))
    for value in (None, False, True):
        optimizer = optim.Adam([p], **{name: value})
        assert name not in optimizer.param_groups[0]
    optimizer.add_param_group({"params": mg.zeros(1), name: True})


@pytest.mark.oracle
@pytest.mark.parametrize("rule", TORCHS)
def test_printing_is_torchs_and_the_options_beyond(rule):
    torch = oracle("torch")

    def printed(lib):
        groups = [{"params": lib.nn.Parameter(lib.zeros((1, 1)))} for _ in range(1 if rule == "LBFGS" else 2)]
        groups[-1]["lr"] = 0.5
        return repr(getattr(lib.optim, rule)(groups))

    mine, theirs = printed(mg), printed(torch)
    absent = ("capturable", "differentiable", "foreach", "fused")
    kept = [line for line in theirs.split("\n") if line.strip().split(":")[0] not in absent and line]
    ours = set(inspect.signature(getattr(optim, rule)).parameters)
    beyond = ours - set(inspect.signature(getattr(torch.optim, rule)).parameters)
    assert [line for line in mine.split("\n") if line.strip().split(":")[0] not in beyond] == kept


# ---------------------------------------------------------------------------------------- rules of the user's


def heavy_ball(lib):
    """An optimizer as people write it for torch."""

    class HeavyBall(lib.optim.Optimizer):
        def __init__(self, params, lr=0.1, momentum=0.9):
            super().__init__(params, dict(lr=lr, momentum=momentum))

        @lib.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    state = self.state[p]
                    if len(state) == 0:
                        state["step"], state["velocity"] = 0, lib.zeros_like(p)
                    state["step"] += 1
                    state["velocity"].mul_(group["momentum"]).add_(p.grad, alpha=-group["lr"])
                    p.add_(state["velocity"])

    return HeavyBall


@pytest.mark.oracle
def test_an_optimizer_written_for_torch_runs_unchanged():
    torch = oracle("torch")
    rng = np.random.default_rng(12)
    start, grads = [rng.normal(size=s) for s in SHAPES], gradients(rng, 20)
    results = []
    for lib in (mg, torch):
        params = [lib.nn.Parameter(lib.tensor(p)) for p in start]
        optimizer = heavy_ball(lib)(params, lr=0.01)
        for t, step in enumerate(grads):
            for p, g in zip(params, step, strict=True):
                p.grad = None if g is None else lib.tensor(g)
            optimizer.step()
            if t == 10:
                saved, optimizer = optimizer.state_dict(), heavy_ball(lib)(params)
                optimizer.load_state_dict(saved)
        results.append([p.detach().numpy() for p in params])
        assert sum(s["step"] for s in optimizer.state.values()) == sum(
            g is not None for s in grads for g in s
        )
    close(*results, 1e-12)


def test_an_optimizer_without_a_rule_says_so():
    with pytest.raises(TypeError, match="Optimizer has neither a kernel nor a step"):
        optim.Optimizer([mg.zeros(1)], {}).step()
