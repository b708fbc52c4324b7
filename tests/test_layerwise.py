"""Rules with norms per tensor: over one buffer as over one tensor at a time, in so many launches."""

import inspect
import pickle

import fake_cupy
import numpy as np
import pytest
from oracle import oracle
from transcriptions.layerwise import adafactor, lamb, lars

import kernels
import minigrad as mg
from minigrad import nn, optim
from minigrad.arena import CHUNK

RULES = {
    "LARS": dict(lr=2.0, trust_coefficient=0.01, weight_decay=0.05),
    "LAMB": dict(lr=0.01, weight_decay=0.1, exclude_1d=True),
    "Adafactor": dict(lr=0.05, weight_decay=0.1),
}
SHAPES = ((70, 40), (), (0,), (5,), (3000,), (2, 3, 17, 19), (1, 4), (1030, 3))


def values(seed, shapes=SHAPES, dtype="float64"):
    rng = np.random.default_rng(seed)
    return [np.asarray(10 ** rng.uniform(-2, 2) * rng.normal(size=s)).astype(dtype) for s in shapes]


def placed(arrays, dtype="float64"):
    return [nn.Parameter(mg.tensor(a, dtype=dtype)) for a in arrays]


def feed(params, optimizer, steps, dtype="float64", leave=()):
    for t in steps:
        for k, (p, g) in enumerate(zip(params, values(100 + t, [p.shape for p in params]), strict=True)):
            p.grad = None if (k, t) in leave else mg.tensor(g, dtype=dtype)
        optimizer.step()


def bits(params):
    return [p.array.tobytes() for p in params]


@pytest.mark.parametrize("machine", ["compiled", "numpy"])
@pytest.mark.parametrize("rule", RULES)
def test_one_buffer_gives_what_a_loop_over_tensors_gives_bit_for_bit(rule, machine):
    with kernels.use(machine):
        together = placed(values(0))
        whole = getattr(optim, rule)(together, **RULES[rule])
        feed(together, whole, range(4))
        for k, start in enumerate(values(0)):
            (alone,) = placed([start])
            optimizer = getattr(optim, rule)([alone], **RULES[rule])
            for t in range(4):
                alone.grad = mg.tensor(values(100 + t)[k])
                optimizer.step()
            assert bits([alone]) == bits([together[k]]), SHAPES[k]


@pytest.mark.parametrize("rule", RULES)
def test_a_run_that_starts_anywhere_in_the_arena_is_the_same(rule):
    """Missing gradients make runs that start and end anywhere, and lag behind in t."""
    leave = {(0, 0), (3, 1), (4, 1), (5, 2), (7, 3), (0, 3)}
    params = placed(values(0))
    feed(params, getattr(optim, rule)(params, **RULES[rule]), range(5), leave=leave)
    for k, start in enumerate(values(0)):
        (alone,) = placed([start])
        optimizer = getattr(optim, rule)([alone], **RULES[rule])
        for t in range(5):
            alone.grad = None if (k, t) in leave else mg.tensor(values(100 + t)[k])
            optimizer.step()
        assert bits([alone]) == bits([params[k]]), SHAPES[k]


@pytest.mark.parametrize(("rule", "paper"), [("LARS", lars), ("LAMB", lamb), ("Adafactor", adafactor)])
def test_tensors_of_many_chunks_are_the_papers(rule, paper):
    params = placed(values(0))
    feed(params, getattr(optim, rule)(params, **RULES[rule]), range(5))
    for k, p in enumerate(params):
        expected = paper(values(0)[k], [values(100 + t)[k] for t in range(5)], **RULES[rule])
        np.testing.assert_allclose(p.array, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_groups_have_options_of_their_own(rule):
    a, b = placed(values(0)[:2]), placed(values(0)[3:5])
    other = RULES[rule] | dict(lr=0.003, weight_decay=0.0)
    optimizer = getattr(optim, rule)([dict(params=a), dict(params=b, **other)], **RULES[rule])
    feed([*a, *b], optimizer, range(3))
    for params, options, first in ((a, RULES[rule], 0), (b, other, 2)):
        again = placed([*values(0)[:2], *values(0)[3:5]][first : first + 2])
        twin = getattr(optim, rule)(again, **options)
        for t in range(3):
            gs = values(100 + t, [p.shape for p in [*a, *b]])[first : first + 2]
            for p, g in zip(again, gs, strict=True):
                p.grad = mg.tensor(g)
            twin.step()
        assert bits(again) == bits(params)


@pytest.mark.parametrize(
    ("rule", "launches"),
    [
        ("LARS", dict(lars_norms=1, lars_trust=1, lars=1)),
        ("LAMB", dict(lamb=1, lamb_norms=1, lamb_trust=1, lamb_step=1)),
        (
            "Adafactor",
            dict(
                adafactor_vectors=1,
                adafactor_rows=3,
                adafactor_columns=2,
                adafactor_columns_of_many=1,
                adafactor_norms=1,
                adafactor_step=1,
                adafactor=1,
            ),
        ),
    ],
)
def test_launches_are_pinned_and_nothing_is_read_back(rule, launches):
    """LARS 3, LAMB 4, whatever the number of tensors; Adafactor 4, and 2 for each of three matrices."""
    with fake_cupy.installed() as device:
        shapes = ((5, 4), (7,), (), (0,), (2000,), (40, 60), (2, 3, 3, 3), (9,))
        params = [nn.Parameter(mg.ones(s, device="cuda")) for s in shapes]
        optimizer = getattr(optim, rule)(params)
        for p in params:
            p.grad = mg.ones(p.shape, device="cuda")
        optimizer.step()
        for p in params:
            p.grad = p.slot
        with device.counting() as counts:
            optimizer.step()
        assert {k: n for k, n in counts.launches.items() if k.startswith(rule.lower())} == launches
        assert counts.host_reads == []


@pytest.mark.parametrize("rule", RULES)
def test_device_and_host_take_the_same_steps(rule):
    shapes = ((5, 4), (3000,), (), (40, 60), (2, 3, 5, 5))
    ours = placed(values(0, shapes), "float32")
    feed(ours, getattr(optim, rule)(ours, **RULES[rule]), range(3), "float32")
    with fake_cupy.installed():
        theirs = [nn.Parameter(mg.tensor(v, dtype="float32", device="cuda")) for v in values(0, shapes)]
        optimizer = getattr(optim, rule)(theirs, **RULES[rule])
        for t in range(3):
            for p, g in zip(theirs, values(100 + t, shapes), strict=True):
                p.grad = mg.tensor(g, dtype="float32", device="cuda")
            optimizer.step()
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.array, q.cpu().array, rtol=2e-6, atol=2e-6)


def test_norms_of_a_small_tensor_beside_a_large_one_keep_their_digits():
    """To 8e-8: sums within a chunk are float32, those over chunks double; no difference of running sums."""
    rng = np.random.default_rng(0)
    large = (1e6 * rng.normal(size=200 * CHUNK)).astype("float32")
    small = (1e-6 * rng.normal(size=3 * CHUNK + 5)).astype("float32")
    params = placed([large, small, large], "float32")
    optimizer = optim.LARS(params, lr=1.0, momentum=0, weight_decay=0.0, trust_coefficient=1.0)
    gs = [rng.normal(size=p.shape).astype("float32") for p in params]
    starts = [p.array.astype("float64") for p in params]
    for p, g in zip(params, gs, strict=True):
        p.grad = mg.tensor(g)
    optimizer.step()
    for p, w, g in zip(params, starts, gs, strict=True):
        expected = w - np.linalg.norm(w) / np.linalg.norm(g.astype("float64")) * g.astype("float64")
        error = np.linalg.norm(p.array - expected) / np.linalg.norm(expected)
        assert error < 8e-8


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("rule", RULES)
def test_half_tensors_have_norms_in_float32(rule, dtype):
    """A norm of 200 x 2,000 entries of 300 overflows float16 sixteen times over."""
    params = placed([np.full((200, 20), 300.0)], dtype)
    optimizer = getattr(optim, rule)(params, **RULES[rule])
    single = placed([params[0].array.astype("float32")], "float32")
    twin = getattr(optim, rule)(single, **RULES[rule])
    for p, o in ((params[0], optimizer), (single[0], twin)):
        p.grad = mg.full((200, 20), 3e2, dtype=p.dtype)
        o.step()
    assert (params[0].array == single[0].array.astype(params[0].array.dtype)).all()
    assert np.isfinite(params[0].array.astype("float32")).all() and (params[0].array != 300).all()


# ------------------------------------------------------------------------------------ LARS and LAMB by others


def tinygrad_lars(p, grads, lr, momentum, wd, tcoef):
    """tinygrad's LARS with classic=True: the ratio is 1 where either norm is zero, lr within the velocity."""
    b = np.zeros_like(p)
    for g in grads:
        r1, r2 = np.sqrt(np.square(p).sum()), np.sqrt(np.square(g).sum())
        r = tcoef * r1 / (r2 + wd * r1) if r1 > 0 and r2 > 0 else 1.0
        b = momentum * b + (g + wd * p) * r * lr
        p = p - b
    return p


def test_lars_is_tinygrads_formula():
    params = placed(values(0))
    optimizer = optim.LARS.preset("tinygrad", params, lr=2.0, trust_coefficient=0.01)
    feed(params, optimizer, range(30))
    for k, p in enumerate(params):
        gs = [values(100 + t)[k] for t in range(30)]
        expected = tinygrad_lars(values(0)[k], gs, 2.0, 0.9, 1e-4, 0.01)
        np.testing.assert_allclose(p.array, expected, rtol=1e-12, atol=1e-12)


def test_the_two_denominators_of_lars_differ():
    """optax divides by |g + lambda w|, the paper by |g| + lambda |w|; no decay at all is neither."""
    found = []
    for form in (dict(), dict(decay_in_norm=True), dict(weight_decay=0.0)):
        params = placed(values(0))
        feed(params, optim.LARS(params, **(RULES["LARS"] | form)), range(30))
        found.append(np.concatenate([p.array.ravel() for p in params]))
    for k in range(3):
        assert np.abs(found[k] - found[k - 1]).max() > 1e-4


@pytest.mark.oracle
def test_pytorch_optimizers_lamb_is_another_rule():
    """Decay outside of the ratio, |w| cut at 10, only the first moment corrected: not You et al."""
    torch, lib = oracle("torch"), oracle("pytorch_optimizer")
    start, grads = np.ones((4, 3)), [values(100 + t, [(4, 3)])[0] for t in range(10)]
    theirs = torch.nn.Parameter(torch.tensor(start))
    other = lib.Lamb([theirs], lr=0.01, weight_decay=0.1, eps=1e-6)
    (p,) = placed([start])
    optimizer = optim.LAMB([p], lr=0.01, weight_decay=0.1)
    for g in grads:
        theirs.grad, p.grad = torch.tensor(g), mg.tensor(g)
        other.step()
        optimizer.step()
    np.testing.assert_allclose(p.array, lamb(start, grads, 0.01, weight_decay=0.1), rtol=1e-12)
    assert np.abs(p.array - theirs.detach().numpy()).max() > 1e-2


@pytest.mark.parametrize("rule", ["LARS", "LAMB"])
def test_zero_parameters_and_zero_gradients_have_the_ratio_one(rule):
    p, q = placed([np.zeros(3), np.ones(3)])
    options = dict(momentum=0) if rule == "LARS" else dict(eps=1e-12)
    optimizer = getattr(optim, rule)([p, q], lr=0.5, weight_decay=0.0, **options)
    p.grad, q.grad = mg.ones(3, dtype="float64"), mg.zeros(3, dtype="float64")
    optimizer.step()
    np.testing.assert_allclose(p.array, -0.5, rtol=1e-9)
    assert q.tolist() == [1.0] * 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda ps: optim.LARS(ps, trust_coefficient=-1), "LARS: Invalid trust_coefficient value: -1"),
        (lambda ps: optim.LARS(ps, momentum=0, nesterov=True), "LARS: nesterov requires a momentum"),
        (lambda ps: optim.LAMB(ps, clamp=(2.0, 1.0)), "LAMB: Invalid upper bound of clamp"),
        (lambda ps: optim.LAMB(ps, clamp=(1.0,)), "LAMB: clamp bounds are"),
        (lambda ps: optim.Adafactor(ps, d=0.5), "Adafactor: Clipping threshold d should be >= 1 but is: 0.5"),
        (
            lambda ps: optim.Adafactor(ps, beta2_decay=0.1),
            "Adafactor: beta2_decay should be <= 0 but is: 0.1",
        ),
        (
            lambda ps: optim.Adafactor(ps, beta2_decay=float("nan")),
            "Adafactor: beta2_decay should be <= 0 but is: nan",
        ),
        (lambda ps: optim.Adafactor(ps, eps=(-1.0, 1e-3)), "Adafactor: epsilon1 should be >= 0 but is: -1.0"),
        (
            lambda ps: optim.Adafactor(ps, eps=(None, float("nan"))),
            "Adafactor: epsilon2 should be >= 0 but is: nan",
        ),
        (lambda ps: optim.Adafactor(ps, lr=-1), "Adafactor: Learning rate should be >= 0 but is: -1"),
        (
            lambda ps: optim.Adafactor(ps, weight_decay=-1),
            "Adafactor: weight_decay should be >= 0 but is: -1",
        ),
        (lambda ps: optim.Adafactor(ps, eps=1e-8), "Adafactor: eps is 1e-08; it is two numbers"),
        (lambda ps: optim.Adafactor(ps, min_dim_size_to_factor=0), "Invalid min_dim_size_to_factor: 0"),
    ],
)
def test_bad_options_raise_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make(placed([np.ones(2)]))


# ------------------------------------------------------------------------------------------------- Adafactor


def state_of(state):
    """The arrays of a state, which may be by parameter, by index, or a list; copies."""
    items = state.items() if isinstance(state, dict) else enumerate(state)
    return {k: {n: v if n == "step" else v.array.copy() for n, v in s.items()} for k, s in items}


@pytest.mark.oracle
def test_adafactors_arguments_and_defaults_are_torchs():
    torch = oracle("torch")
    theirs = inspect.signature(torch.optim.Adafactor).parameters
    mine = inspect.signature(optim.Adafactor).parameters
    assert list(mine)[: len(theirs)] == list(theirs)
    for name, p in theirs.items():
        assert (mine[name].default, mine[name].kind) == (p.default, p.kind), name
    assert all(p.kind is p.KEYWORD_ONLY for n, p in mine.items() if n not in theirs)


@pytest.mark.oracle
def test_adafactors_state_goes_to_torch_and_back():
    torch = oracle("torch")
    shapes = [s for s in SHAPES if 0 not in s]
    ours = placed(values(0, shapes))
    mine = optim.Adafactor(ours, lr=0.05)
    theirs = [torch.nn.Parameter(torch.tensor(v)) for v in values(0, shapes)]
    other = torch.optim.Adafactor(theirs, lr=0.05)

    def step(optimizer, params, lib, t):
        for p, g in zip(params, values(100 + t, shapes), strict=True):
            p.grad = lib.tensor(g)
        optimizer.step()

    for t in range(4):
        step(mine, ours, mg, t)
        step(other, theirs, torch, t)
    a, b = mine.state_dict(), other.state_dict()
    for k, slots in b["state"].items():
        assert list(a["state"][k]) == list(slots)
        for name, value in slots.items():
            found = a["state"][k][name]
            np.testing.assert_allclose(found if name == "step" else found.array, value.numpy(), rtol=1e-12)
    fresh = placed([p.detach().numpy() for p in theirs])
    third = optim.Adafactor(fresh)
    third.load_state_dict(b)
    fourth_params = [torch.nn.Parameter(torch.tensor(p.array)) for p in ours]
    fourth = torch.optim.Adafactor(fourth_params)
    to_torch = {
        k: {n: v if n == "step" else torch.tensor(v) for n, v in s.items()}
        for k, s in state_of(a["state"]).items()
    }
    fourth.load_state_dict({"state": to_torch, "param_groups": [b["param_groups"][0]]})
    for t in range(4, 8):
        step(third, fresh, mg, t)
        step(other, theirs, torch, t)
        step(fourth, fourth_params, torch, t)
    for p, q, r in zip(fresh, theirs, fourth_params, strict=True):
        np.testing.assert_allclose(p.array, q.detach().numpy(), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(r.detach().numpy(), q.detach().numpy(), rtol=1e-12, atol=1e-12)


def test_adafactor_keeps_a_row_and_a_column_of_a_matrix():
    params = placed([np.ones((300, 200)), np.ones(7)], "float32")
    optimizer = optim.Adafactor(params)
    feed(params, optimizer, range(1), "float32")
    assert {n: v.shape for n, v in optimizer.state[params[0]].items() if n != "step"} == {
        "row_var": (300, 1),
        "col_var": (1, 200),
    }
    assert optimizer.state[params[1]]["variance"].shape == (7,)
    assert optim.zoo["Adafactor"].state_bytes == 4 * 64 / 1024
    (second,) = optimizer.seconds.values()
    assert second.array.size == 1 + 7 + 300 + 2 * 200  # the columns once more, over the mean of the rows


def test_adafactors_state_survives_new_groups_and_moves_and_pickles():
    """Each of them lays the buffer out anew; ten steps are ten steps."""
    plain = placed(values(0), "float32")
    twin = optim.Adafactor(plain, lr=0.05)
    feed(plain, twin, range(3), "float32")
    params = placed(values(0), "float32")
    optimizer = optim.Adafactor(params, lr=0.05)
    feed(params, optimizer, range(3), "float32")
    extra = placed([np.ones((3, 3))], "float32")
    optimizer.add_param_group(dict(params=extra))
    for p, q in zip(params, plain, strict=True):
        for name in ("row_var", "col_var", "variance"):
            if name in twin.state[q]:
                assert (optimizer.state[p][name].array == twin.state[q][name].array).all()
    params, optimizer = pickle.loads(pickle.dumps((params, optimizer)))
    for p in params:
        p.grad = None
    feed(params, optimizer, range(3, 6), "float32")
    feed(plain, twin, range(3, 6), "float32")
    assert bits(params) == bits(plain)

    model = nn.Linear(4, 3)
    optimizer = optim.Adafactor(model.parameters())
    feed(list(model.parameters()), optimizer, range(2), "float32")
    before = state_of(list(optimizer.state.values()))
    model.to("float64")
    after = state_of(list(optimizer.state.values()))
    for k, slots in before.items():
        for name, value in slots.items():
            assert np.array_equal(after[k][name], value) and (
                name == "step" or after[k][name].dtype == "float64"
            )
    feed(list(model.parameters()), optimizer, range(2, 4), "float64")
    assert optimizer.steps[model.weight] == 4


def test_adafactor_refuses_a_state_of_another_shape_and_changes_nothing():
    ours, theirs = placed([np.ones((3, 2))]), placed([np.ones((2, 3))])
    mine, other = optim.Adafactor(ours), optim.Adafactor(theirs)
    feed(ours, mine, range(2))
    feed(theirs, other, range(1))
    before = state_of(list(mine.state.values()))
    with pytest.raises(ValueError, match=r"'row_var' has shape \[2, 1\], here it has \[3, 1\]"):
        mine.load_state_dict(other.state_dict())
    after = state_of(list(mine.state.values()))
    assert all(np.array_equal(before[0][n], after[0][n]) for n in before[0])
    plain = optim.Adafactor(placed([np.ones((3, 2))]), min_dim_size_to_factor=9)
    with pytest.raises(ValueError, match="has no 'row_var'"):
        state = plain.state_dict()
        state["state"] = {0: {"step": 1, "variance": mg.ones(3, 2)}}
        state["param_groups"][0]["min_dim_size_to_factor"] = 1
        mine.load_state_dict(state)


def test_adafactor_without_factors_loads_into_one_with_them():
    """The options come with the state: the buffer is laid out by what was saved."""
    ours, theirs = placed(values(0)), placed(values(0))
    mine, other = optim.Adafactor(ours, lr=0.05, min_dim_size_to_factor=50), optim.Adafactor(theirs, lr=0.05)
    feed(ours, mine, range(3))
    feed(theirs, other, range(2))
    for p, q in zip(theirs, ours, strict=True):
        p.data = q.detach()
    other.load_state_dict(mine.state_dict())
    feed(ours, mine, range(3, 6))
    feed(theirs, other, range(3, 6))
    assert bits(ours) == bits(theirs)
