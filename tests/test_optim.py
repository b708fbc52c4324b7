"""Optimizers: every rule is PyTorch's to the last digits, on every machine; so are closures and hooks."""

import itertools
import sys
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
from oracle import oracle
from test_rules import MACHINES, SHAPES, close, gradients
from transcriptions.libraries import doubles

import kernels
import minigrad as mg
from minigrad import optim


def options(**choices):
    """Every combination of the choices, as keyword arguments."""
    return [dict(zip(choices, values)) for values in itertools.product(*choices.values())]


SGDS = [
    o
    for o in options(
        momentum=(0, 0.9),
        dampening=(0, 0.3),
        nesterov=(False, True),
        weight_decay=(0, 0.1),
        maximize=(False, True),
    )
    if not o["nesterov"] or (o["momentum"] and not o["dampening"])
]
ADAMS = options(
    betas=((0.9, 0.999), (0.0, 0.5)),
    eps=(1e-8, 1e-3),
    weight_decay=(0, 0.1),
    amsgrad=(False, True),
    maximize=(False, True),
)
RULES = [("SGD", dict(lr=0.01) | o) for o in SGDS]
RULES += [(rule, dict(lr=0.01) | o) for rule in ("Adam", "AdamW") for o in ADAMS]
RULES += [("Adam", dict(lr=0.01, decoupled_weight_decay=True) | o) for o in ADAMS[:2]]
DECAYS = options(weight_decay=(0, 0.1), maximize=(False, True))
DECOUPLED = [o | dict(decoupled_weight_decay=d) for o in DECAYS for d in (False, True)]
RULES += [("ASGD", dict(lr=0.01, lambd=0.01, t0=t0) | o) for o in DECAYS for t0 in (1e6, 10)]
RULES += [
    ("Rprop", dict(etas=e) | o) for e in ((0.5, 1.2), (0.2, 3.0)) for o in options(maximize=(False, True))
]
RULES += [
    ("Adagrad", dict(lr=0.1, lr_decay=d, initial_accumulator_value=a) | o)
    for o in DECAYS
    for d, a in ((0, 0), (0.1, 0.5))
]
RULES += [("Adadelta", dict(rho=rho) | o) for o in DECAYS for rho in (0.9, 0.0)]
RULES += [
    ("RMSprop", o | dict(eps=1e-3 if o["centered"] else 1e-8))
    for o in options(
        momentum=(0, 0.9),
        centered=(False, True),
        weight_decay=(0, 0.1),
        maximize=(False, True),
        alpha=(0.99, 0.5),
    )
]
RULES += [("Adamax", dict(betas=b) | o) for o in DECAYS for b in ((0.9, 0.999), (0.0, 0.5))]
RULES += [("NAdam", dict(momentum_decay=d) | o) for o in DECOUPLED for d in (4e-3, 0.5)]
RULES += [("RAdam", dict(betas=b) | o) for o in DECOUPLED for b in ((0.9, 0.999), (0.5, 0.9))]
FEW = [
    RULES[0],
    RULES[3],
    RULES[11],
    ("Adam", dict(amsgrad=True, weight_decay=0.1)),
    ("AdamW", dict(maximize=True)),
    ("Adagrad", dict(lr=0.1, weight_decay=0.1)),
    ("Adadelta", dict(rho=0.95)),
    ("RMSprop", dict(momentum=0.9, centered=True, eps=1e-3)),
    ("NAdam", dict(weight_decay=0.1)),
    ("RAdam", dict(betas=(0.9, 0.99))),
]


def named(rules):
    return dict(
        argvalues=rules,
        ids=[f"{r} " + " ".join(f"{k}={v}".replace(" ", "") for k, v in o.items() if v) for r, o in rules],
    )


def ours(rule, given, start, grads, dtype="float64", machine="compiled"):
    """Parameters after these gradients, as arrays, and the optimizer."""
    with kernels.use(machine):
        params = [mg.Parameter(mg.tensor(p, dtype=dtype)) for p in start]
        optimizer = getattr(optim, rule)(params, **given)
        for step in grads:
            for p, g in zip(params, step, strict=True):
                p.grad = None if g is None else mg.tensor(g, dtype=dtype)
            optimizer.step()
    return [p.array for p in params], optimizer


def torchs(rule, given, start, grads, dtype="float64"):
    torch = oracle("torch")
    with doubles(torch) if dtype == "float64" else nullcontext():
        return torchs_steps(torch, rule, given, start, grads, getattr(torch, dtype))


def torchs_steps(torch, rule, given, start, grads, kind):
    params = [torch.nn.Parameter(torch.tensor(p, dtype=kind)) for p in start]
    optimizer = getattr(torch.optim, rule)(params, foreach=False, **given)
    for step in grads:
        for p, g in zip(params, step, strict=True):
            p.grad = None if g is None else torch.tensor(g, dtype=kind)
        optimizer.step()
    return [p.detach().numpy() for p in params]


# ------------------------------------------------------------------------------------------------- arithmetic


@pytest.mark.oracle
@pytest.mark.parametrize(("rule", "given"), **named(RULES))
def test_60_steps_are_torchs_in_every_option_on_both_machines(rule, given):
    rng = np.random.default_rng(5)
    start, grads = [rng.normal(size=s) for s in SHAPES], gradients(rng, 60)
    expected = torchs(rule, given, start, grads)
    found = [ours(rule, given, start, grads, machine=machine) for machine in MACHINES]
    close(found[0][0], expected, 1e-12)
    for a, b in zip(found[0][0], found[1][0], strict=True):
        assert a.tobytes() == b.tobytes()
    for p, q in zip(found[0][1].parameters(), found[1][1].parameters(), strict=True):
        one, other = found[0][1].state.get(p, {}), found[1][1].state.get(q, {})
        assert list(one) == list(other)
        for name in one:
            assert np.asarray(one[name]).tobytes() == np.asarray(other[name]).tobytes(), name


@pytest.mark.oracle
@pytest.mark.parametrize(("rule", "given"), **named(FEW))
def test_60_steps_in_float32_are_torchs_and_as_near_to_float64(rule, given):
    """Roundings of 60 steps add up in both; as vectors they differ by 2e-6 at most."""
    rng = np.random.default_rng(6)
    start = [rng.normal(size=s).astype("float32") for s in SHAPES]
    grads = [[None if g is None else g.astype("float32") for g in step] for step in gradients(rng, 60)]
    exact = np.concatenate([p.ravel() for p in ours(rule, given, start, grads, "float64")[0]])
    theirs = np.concatenate([p.ravel() for p in torchs(rule, given, start, grads, "float32")])
    for machine in MACHINES:
        mine = np.concatenate([p.ravel() for p in ours(rule, given, start, grads, "float32", machine)[0]])
        norm = np.linalg.norm(exact)
        assert np.linalg.norm(mine - theirs) <= 2e-6 * norm
        assert np.linalg.norm(mine - exact) <= 1.1 * np.linalg.norm(theirs - exact) + 1e-8 * norm


TORCHS = [name for name, record in optim.zoo.items() if "torch" in record.presets and name != "AMSGrad"]
ANY_SHAPE = [name for name in TORCHS if optim.zoo[name].kind in ("elementwise", "layer-wise")]


@pytest.mark.oracle
@pytest.mark.parametrize("rule", ANY_SHAPE)
def test_lr_may_be_a_0d_tensor_that_is_changed_between_steps(rule):
    torch = oracle("torch")
    rng = np.random.default_rng(7)
    with doubles(torch):
        p, q = mg.Parameter(mg.tensor(rng.normal(size=9))), torch.nn.Parameter(torch.zeros(9))
        q.data = torch.tensor(p.array.copy())
        lr, rate = mg.tensor(0.1, dtype=mg.float64), torch.tensor(0.1)
        pair = (getattr(optim, rule)([p], lr=lr), getattr(torch.optim, rule)([q], lr=rate, foreach=False))
        for t in range(20):
            g = rng.normal(size=9)
            p.grad, q.grad = mg.tensor(g), torch.tensor(g)
            lr.fill_(0.1 / (t + 1))
            rate.fill_(0.1 / (t + 1))
            for o in pair:
                o.step()
    close([p.array], [q.detach().numpy()], 1e-12)
    assert pair[0].param_groups[0]["lr"] is lr


@pytest.mark.oracle
@pytest.mark.parametrize("rule", ANY_SHAPE)
def test_groups_of_every_rule_have_options_of_their_own(rule):
    torch = oracle("torch")
    rng = np.random.default_rng(8)
    shapes = [s for s in SHAPES if rule != "Adafactor" or 0 not in s]  # where torch divides by zero
    start, grads = [rng.normal(size=s) for s in shapes], gradients(rng, 20, shapes=shapes)
    results = []
    with doubles(torch):
        for lib, make in (
            (mg, lambda a: mg.Parameter(mg.tensor(a))),
            (torch, lambda a: torch.nn.Parameter(torch.tensor(a))),
        ):
            params = [make(p) for p in start]
            optimizer = getattr(lib.optim, rule)(
                [{"params": params[:2], "lr": 0.1}, {"params": params[2], "maximize": True}], lr=0.02
            )
            optimizer.add_param_group({"params": params[3:], "lr": 0.05})
            for t, step in enumerate(grads):
                for p, g in zip(params, step, strict=True):
                    p.grad = None if g is None else lib.tensor(g)
                optimizer.param_groups[t % 3]["lr"] *= 0.9
                optimizer.step()
            results.append([p.detach().numpy() for p in params])
    close(*results, 1e-12)


@pytest.mark.oracle
def test_groups_have_options_of_their_own():
    torch = oracle("torch")
    rng = np.random.default_rng(8)
    start, grads = [rng.normal(size=s) for s in SHAPES], gradients(rng, 30)
    results = []
    for lib, make in (
        (mg, lambda a: mg.Parameter(mg.tensor(a))),
        (torch, lambda a: torch.nn.Parameter(torch.tensor(a))),
    ):
        params = [make(p) for p in start]
        optimizer = lib.optim.AdamW(
            [{"params": params[:2], "lr": 0.1}, {"params": params[2], "amsgrad": True}], lr=0.02
        )
        optimizer.add_param_group({"params": params[3:], "weight_decay": 0.5, "betas": (0.5, 0.6)})
        for t, step in enumerate(grads):
            for p, g in zip(params, step, strict=True):
                p.grad = None if g is None else lib.tensor(g)
            optimizer.param_groups[t % 3]["lr"] *= 0.9
            optimizer.step()
        results.append([p.detach().numpy() for p in params])
    close(*results, 1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(("rule", "given"), **named(FEW))
def test_zero_gradients_change_nothing(rule, given, dtype):
    given = given | dict(weight_decay=0)
    start = [np.array([0, 1, -3e-5, 6e4]), np.zeros(())]
    for machine in MACHINES:
        after, optimizer = ours(rule, given, start, [[np.zeros(4), np.zeros(())]] * 3, dtype, machine)
        for a, b in zip(after, start, strict=True):
            assert (a == mg.tensor(b, dtype=dtype).array).all()
        for slots in optimizer.state.values():
            assert all(not t.array.any() for t in slots.values() if isinstance(t, mg.Tensor))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("rule", "given"), **named(FEW))
def test_half_parameters_step_in_float32_and_are_rounded_once(rule, given, dtype):
    rng = np.random.default_rng(9)
    p = mg.tensor(rng.normal(size=50), dtype=dtype)
    g = mg.tensor(rng.normal(size=50), dtype=dtype)
    half, optimizer = ours(rule, given, [p.array], [[g.array]], dtype)
    single, _ = ours(rule, given, [p.array], [[g.array]], "float32")
    assert half[0].tobytes() == single[0].astype(half[0].dtype).tobytes()
    kinds = {t.dtype for s in optimizer.state.values() for t in s.values() if isinstance(t, mg.Tensor)}
    assert kinds <= {mg.float32}


# ----------------------------------------------------------------------------------------- closures and hooks


def test_a_closure_is_called_with_recording_on_and_its_loss_returned():
    w = mg.Parameter(mg.tensor([3.0]))
    optimizer = optim.SGD([w], lr=0.25)

    def closure():
        assert mg.is_grad_enabled()
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with mg.no_grad():
        loss = optimizer.step(closure)
        assert not mg.is_grad_enabled()
    assert loss.item() == 9.0
    assert w.item() == 1.5
    assert optimizer.step() is None


@pytest.mark.oracle
def test_hooks_are_called_as_in_torch():
    torch = oracle("torch")
    logs = []
    for lib in (mg, torch):
        log = []
        p = lib.ones(1).requires_grad_()
        p.grad = lib.ones(1)
        optimizer = lib.optim.SGD([p], lr=0.5)
        optimizer.register_step_pre_hook(
            lambda o, args, kwargs, p=p, log=log: log.append(("pre", p.item(), len(args), dict(kwargs)))
        )
        post = optimizer.register_step_post_hook(
            lambda o, args, kwargs, p=p, log=log: log.append(("post", p.item(), len(args), dict(kwargs)))
        )
        optimizer.step()
        optimizer.step(lambda log=log: log.append("closure"))
        post.remove()
        optimizer.step()
        logs.append(log)
    assert logs[0] == logs[1]
    assert [e[0] for e in logs[0] if e != "closure"] == ["pre", "post", "pre", "post", "pre"]


def test_a_pre_hook_may_replace_the_closure():
    p = mg.ones(1)
    optimizer = optim.SGD([p])
    handle = optimizer.register_step_pre_hook(lambda o, args, kwargs: ((o, lambda: "other"), {}))
    assert optimizer.step(lambda: "mine") == "other"
    handle.remove()
    assert optimizer.step(lambda: "mine") == "mine"


BUILDING = ("ctypes.dlopen", "subprocess.Popen", "compile", "exec", "os.posix_spawn")
events: list[str] = []
watching = False


def _watch(event, args):
    if watching and event in BUILDING:
        events.append(event)


sys.addaudithook(_watch)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("rule", "given"), **named(FEW))
def test_options_that_change_between_steps_build_nothing(rule, given, machine):
    global watching
    p = mg.Parameter(mg.ones(5))
    p.grad = mg.ones(5)
    with kernels.use(machine):
        optimizer = getattr(optim, rule)([p], **given)
        optimizer.step()
        events.clear()
        watching = True
        try:
            for lr in (0.1, 1, 0, mg.tensor(0.5), np.float32(2)):
                optimizer.param_groups[0].update(lr=lr, weight_decay=lr)
                optimizer.step()
        finally:
            watching = False
    assert events == []
    assert optimizer.steps[p] == 6


def test_nothing_warns_in_a_step():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        p = mg.Parameter(mg.full((4,), 6e4, dtype=mg.float16))
        optimizer = optim.SGD([p], lr=1e10, momentum=0.9)
        for _ in range(3):
            p.grad = mg.full((4,), 6e4, dtype=mg.float16)
            optimizer.step()
    assert not np.isfinite(p.array).any()


class Sparse:
    """What another framework's sparse gradient looks like from here."""

    layout, dtype, shape = "torch.sparse_coo", "float32", (2, 2)


@pytest.mark.parametrize(
    ("grad", "kind"),
    [
        (Sparse(), "sparse"),
        (np.ones((2, 2), complex), "complex numpy.ndarray"),
        (np.ones((2, 2)), "numpy.ndarray"),
    ],
    ids=["sparse", "complex", "array"],
)
@pytest.mark.parametrize("rule", ["SGD", "Adam", "LAMB", "Adafactor", "Prodigy"])
def test_sparse_complex_and_foreign_gradients_are_refused_by_name_and_nothing_changes(rule, grad, kind):
    first, second = mg.Parameter(mg.ones(2, 2)), mg.Parameter(mg.ones(2, 2))
    optimizer = getattr(optim, rule)([{"params": [("first", first)]}, {"params": [("second", second)]}])
    first.grad, second.grad = mg.ones(2, 2), grad
    with pytest.raises(TypeError, match=rf"the grad of 'second' is a {kind}.*; gradients are dense and real"):
        optimizer.step()
    assert first.tolist() == second.tolist() == [[1, 1], [1, 1]]
    assert not optimizer.state.get(first, {}) and optimizer.steps[first] == 0


@pytest.mark.parametrize("options", [{}, {"lr": -1}, {"betas": (0.9, 1.0)}])
def test_a_group_that_is_refused_changes_nothing(options):
    p, new = mg.Parameter(mg.ones(2)), mg.Parameter(mg.ones(2))
    optimizer = optim.Adam([p])
    p.grad = mg.ones(2)
    optimizer.step()
    before = optimizer.state[p]["exp_avg"].tolist()
    with pytest.raises(ValueError):
        optimizer.add_param_group({"params": [new] if options else [new, p]} | options)
    assert len(optimizer.param_groups) == 1 and new not in optimizer.steps and new.arena is None
    assert optimizer.steps[p] == 1 and optimizer.state[p]["exp_avg"].tolist() == before
