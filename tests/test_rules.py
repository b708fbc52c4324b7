"""Every registered rule, with the same questions to each: is it its paper, does it stay itself everywhere?

The cases are in tests/transcriptions; a rule without one fails here.
"""

import json
import re
from pathlib import Path

import fake_cupy
import numpy as np
import pytest
from transcriptions import all_cases
from transcriptions.libraries import WHOLE

import kernels
import minigrad as mg
from minigrad import nn, optim

ROOT = Path(__file__).resolve().parents[1]
CASES = all_cases()
RULES = list(optim.zoo.values())
SHAPES = ((5, 3), (), (0,), (2, 3, 4), (1100,))
MACHINES = ("compiled", "numpy")


def gradients(rng, steps=60, missing=True, shapes=SHAPES):
    """A gradient a parameter for each step: four decades, a tenth of them exact zeros, some missing."""
    found = []
    for _ in range(steps):
        step = [10 ** rng.uniform(-2, 2, s) * rng.normal(size=s) * (rng.random(s) < 0.9) for s in shapes]
        found.append([None if missing and rng.random() < 0.2 else np.asarray(g) for g in step])
    return found


def starting(rng, shapes=SHAPES):
    return [np.asarray(rng.normal(size=s)) for s in shapes]


def placed(values, dtype):
    return [nn.Parameter(mg.tensor(v, dtype=dtype)) for v in values]


def feed(params, optimizer, grads, dtype):
    """One step a list of gradients, through a closure that hands them out, as closures would."""
    for step in grads:

        def closure(step=step):
            for p, g in zip(params, step, strict=True):
                p.grad = None if g is None else mg.tensor(g, dtype=dtype)

        optimizer.step(closure)


def ours(case, start, grads, dtype="float64", machine="compiled"):
    with kernels.use(machine):
        params = placed(start, dtype)
        optimizer = case.make(params)
        feed(params, optimizer, grads, dtype)
    return [p.array for p in params], optimizer


def mode(optimizer, name):
    """Schedule-Free is saved in eval mode and goes on in train mode; others have no modes."""
    getattr(optimizer, name, lambda: None)()


def flat(arrays):
    return np.concatenate([np.asarray(a, np.float64).ravel() for a in arrays])


def run(rule, given, start, grads):
    params = placed(start, "float64")
    feed(params, getattr(optim, rule)(params, **given), grads, "float64")
    return flat([p.array for p in params])


def material(seed, scale=1.0, steps=60):
    """Parameters and gradients; small gradients, where an eps of 1e-2 shows, by `scale`."""
    rng = np.random.default_rng(seed)
    start, grads = starting(rng), gradients(rng, steps, missing=False)
    return start, [[scale * g for g in step] for step in grads]


def close(xs, ys, tolerance):
    for x, y in zip(xs, ys, strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_60_steps_are_the_papers_on_both_machines_bit_for_bit(case):
    rng = np.random.default_rng(1)
    start, grads = starting(rng), gradients(rng)
    expected = case.paper(start, grads)
    (one, optimizer), (other, twin) = (ours(case, start, grads, machine=m) for m in MACHINES)
    close(one, expected, case.tolerance)
    for a, b in zip(one, other, strict=True):
        assert a.tobytes() == b.tobytes()
    for p, q in zip(optimizer.parameters(), twin.parameters(), strict=True):
        for name, slot in optimizer.state.get(p, {}).items():
            assert np.asarray(slot).tobytes() == np.asarray(twin.state[q][name]).tobytes(), name


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("case", "library"),
    [pytest.param(c, lib, id=f"{lib.name}: {c}") for c in CASES for lib in c.libraries],
)
def test_60_steps_are_the_librarys(case, library):
    rng = np.random.default_rng(2)
    start, grads = starting(rng), gradients(rng, missing=library.name not in WHOLE)
    close(ours(case, start, grads)[0], library.run(start, grads), library.tolerance)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_float32_stays_within_2e_6_of_the_vector(case):
    rng = np.random.default_rng(3)
    start = [p.astype("float32").astype("float64") for p in starting(rng)]
    grads = [
        [None if g is None else g.astype("float32").astype("float64") for g in s] for s in gradients(rng)
    ]
    paper = case.single or case.paper
    exact, found = flat(paper(start, grads)), flat(ours(case, start, grads, "float32")[0])
    if case.signs:  # a few elements may have taken the other side
        near = np.abs(found - exact) <= 1e-5 * np.maximum(np.abs(exact), 1)
        assert near.mean() > 0.995
        exact, found = exact[near], found[near]
    assert np.linalg.norm(found - exact) <= 2e-6 * max(np.linalg.norm(exact), np.linalg.norm(flat(start)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_zero_gradients_change_nothing_and_make_no_nan(case, dtype):
    start = [np.array([[0, 1], [-3e-5, 6e4]]), np.zeros(())]
    decays = ("weight_decay", "noise", "lambd")  # these are meant to move parameters without a gradient
    options = optim.zoo[case.rule].make(placed(start, dtype)).param_groups[0]
    still = case.options | {k: 0 for k in decays if k in case.options or k in options}
    for machine in MACHINES:
        with kernels.use(machine):
            params = placed(start, dtype)
            optimizer = optim.zoo[case.rule].make(params, **still)
            feed(params, optimizer, [[np.zeros((2, 2)), np.zeros(())]] * 3, dtype)
        for p, b in zip(params, start, strict=True):
            assert (p.array == mg.tensor(b, dtype=dtype).array).all()
            for slot in optimizer.state.get(p, {}).values():
                assert np.isfinite(np.asarray(slot, np.float64)).all()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_half_parameters_step_in_float32_and_are_rounded_once(case):
    rng = np.random.default_rng(4)
    for dtype in ("float16", "bfloat16"):
        start = [mg.tensor(p, dtype=dtype).array for p in starting(rng)]
        grads = [[mg.tensor(g, dtype=dtype).array for g in gradients(rng, 1, missing=False)[0]]]
        half, optimizer = ours(case, start, grads, dtype)
        single, _ = ours(case, start, grads, "float32")
        for a, b in zip(half, single, strict=True):
            assert a.tobytes() == b.astype(a.dtype).tobytes()
        kinds = {t.dtype for s in optimizer.state.values() for t in s.values() if isinstance(t, mg.Tensor)}
        assert kinds <= {mg.float32}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_k_steps_saved_loaded_and_k_more_are_2k_steps(case):
    rng = np.random.default_rng(5)
    start, grads = starting(rng), gradients(rng, 12)
    whole, _ = ours(case, start, grads)
    params = placed(start, "float64")
    optimizer = case.make(params)
    feed(params, optimizer, grads[:6], "float64")
    mode(optimizer, "eval")
    again = placed([p.array for p in params], "float64")
    other = case.make(again)
    state = optimizer.state_dict()
    json.dumps(state["param_groups"], default=lambda value: value.tolist())
    other.load_state_dict(state)
    mode(other, "train")
    feed(again, other, grads[6:], "float64")
    for a, p in zip(whole, again, strict=True):
        assert a.tobytes() == p.array.tobytes()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_pads_stay_zero_and_parameters_without_gradient_are_left_alone(case):
    rng = np.random.default_rng(6)
    start = starting(rng, ((3,), (2, 2), (7,)))
    params = placed(start, "float32")
    optimizer = case.make(params)
    grads = gradients(rng, 3, missing=False, shapes=((3,), (2, 2), (7,)))
    feed(params, optimizer, [[g[0], None, g[2]] for g in grads], "float32")
    assert (params[1].array == start[1].astype("float32")).all()
    assert optimizer.steps.get(params[1], 0) == 0 and not optimizer.state.get(params[1], {})
    arena = params[0].arena
    for p in params:
        size = p.numel()
        assert not arena.array[p.offset + size : p.stop].any()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_error_in_the_closure_or_in_the_second_group_changes_nothing(case):
    def snapshot():
        states = [{k: np.array(v) for k, v in optimizer.state.get(p, {}).items()} for p in params]
        return [p.array.tobytes() for p in params], [optimizer.steps[p] for p in params], repr(states)

    rng = np.random.default_rng(7)
    params = placed(starting(rng), "float64")
    optimizer = case.make(params)
    feed(params, optimizer, gradients(rng, 3, missing=False), "float64")
    before = snapshot()

    def closure():
        raise KeyError("the data ran out")

    with pytest.raises(KeyError, match="the data ran out"):
        optimizer.step(closure)
    assert snapshot() == before
    last = nn.Parameter(mg.ones(2, dtype=mg.float64))
    if "lr" not in optimizer.param_groups[0] or isinstance(optimizer.param_groups[0]["lr"], mg.Tensor):
        return
    optimizer.add_param_group({"params": [last]})
    optimizer.param_groups[-1]["lr"] = "fast"
    grads = gradients(rng, 1, missing=False, shapes=(*SHAPES, (2,)))
    with pytest.raises((ValueError, TypeError)):
        feed([*params, last], optimizer, grads, "float64")
    assert snapshot() == before and last.tolist() == [1, 1]


@pytest.mark.parametrize("record", RULES, ids=lambda r: r.name)
def test_bad_hyperparameters_raise_with_name_and_value(record):
    def make(**options):
        return record.make([nn.Parameter(mg.ones(2, 2))], **options)

    options = {k: v for k, v in make().param_groups[0].items() if k not in ("params", "param_names")}
    nan = float("nan")
    bad = dict(lr=(-1, nan), eps=(0, -1e-8, nan), weight_decay=(-1, nan), momentum=(-0.1, nan), rho=(-1, nan))
    tried = 0
    for name in set(bad) & set(options):
        if isinstance(options[name], (tuple, list)) or options[name] is None:
            continue
        for value in bad[name]:
            with pytest.raises(
                ValueError, match=f"{value:g}" if isinstance(value, float) else str(value)
            ) as e:
                make(**{name: value})
            assert record.example or record.name in str(e.value)  # a wrapper's rule inside speaks
            tried += 1
    if "betas" in options:
        for k in range(len(options["betas"])):
            for value in (1.0, -0.1, nan):
                betas = tuple(value if i == k else b for i, b in enumerate(options["betas"]))
                with pytest.raises(ValueError, match=r"beta") as e:
                    make(betas=betas)
                assert str(value) in str(e.value)
                tried += 1
    with pytest.raises(TypeError, match="unexpected keyword argument 'learning_rate'; it takes "):
        record.cls([nn.Parameter(mg.ones(2, 2))], learning_rate=0.1)
    assert tried or not set(bad) & set(options)


@pytest.mark.parametrize("record", RULES, ids=lambda r: r.name)
def test_presets_make_optimizers(record):
    for source, options in record.presets.items():
        assert set(options) <= set(record.make([nn.Parameter(mg.ones(2, 2))]).param_groups[0]) | {"form"}, (
            source
        )
        record.make([nn.Parameter(mg.ones(2, 2))], **options)
    if record.example is None:
        with pytest.raises(ValueError, match="has no preset 'nobody'"):
            record.cls.preset("nobody", [nn.Parameter(mg.ones(2))])


@pytest.mark.parametrize(
    "record", [r for r in RULES if r.kind == "elementwise" and not r.needs], ids=lambda r: r.name
)
def test_a_step_is_one_launch_a_group_without_a_host_read(record):
    with fake_cupy.installed() as device:
        params = [nn.Parameter(mg.ones(4, 3, device="cuda")) for _ in range(5)]
        optimizer = record.make(params)
        for p in params:
            p.grad = mg.ones(4, 3, device="cuda")
        optimizer.step()
        for p in params:
            p.grad = p.slot
        with device.counting() as counts:
            optimizer.step()
        rule = [name for name in counts.launches if name in {k.name for k in record.kernels}]
        assert sum(counts.launches[name] for name in rule) == 1, counts.launches
        assert counts.host_reads == []


# ----------------------------------------------------------------------------------------- what must be there


def test_every_rule_is_registered_with_a_case_and_its_oracles_are_those_of_its_cases():
    classes = {
        c.__name__
        for c in vars(optim).values()
        if isinstance(c, type) and issubclass(c, optim.Optimizer) and c is not optim.Optimizer
    }
    assert set(optim.zoo) == classes
    tested = {c.rule for c in CASES}
    proved_elsewhere = {r.name for r in RULES if r.proof}
    assert classes - proved_elsewhere == tested - proved_elsewhere
    for record in RULES:
        if record.name in tested:
            libraries = {lib.name for c in CASES if c.rule == record.name for lib in c.libraries}
            assert libraries <= set(record.oracles), record.name
            assert record.proof or libraries == set(record.oracles) - {"paper"}, record.name


@pytest.mark.parametrize("record", [r for r in RULES if r.proof], ids=lambda r: r.name)
def test_a_proof_elsewhere_is_there_and_names_the_rule_and_its_oracles(record):
    text = (ROOT / record.proof).read_text()
    assert re.search(rf"\b{record.name}\b", text)
    here = {lib.name for c in CASES if c.rule == record.name for lib in c.libraries} | {"paper"}
    for library in set(record.oracles) - here:
        assert re.search(rf"\b{library}\b", text), library


def test_every_flag_of_every_text_is_used_by_a_case():
    used = {}  # by text: several classes may share one
    for c in CASES:
        optimizer = c.make(placed([np.ones((2, 2))], "float32"))
        for text in optim.zoo[c.rule].kernels:
            flags = used.setdefault(text.name, set())
            flags |= set(optimizer.flags(optimizer.param_groups[0]))
    known = {text.name: set(text.flags) for r in RULES if not r.proof for text in r.kernels}
    assert [(name, flag) for name in known for flag in known[name] - used.get(name, set())] == []


@pytest.mark.parametrize("record", RULES, ids=lambda r: r.name)
def test_a_record_says_what_there_is_to_say(record):
    assert 1600 < record.year < 2100 and record.paper and record.latex
    assert record.kind in ("elementwise", "layer-wise", "matrix", "global")
    assert record.cls.__doc__ and record.state_bytes >= 0
