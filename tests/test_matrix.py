"""Muon, Shampoo and SOAP: the questions of tests/test_rules.py, asked of matrices and filters."""

import copy
import json
import pickle

import fake_cupy
import numpy as np
import pytest
from test_rules import MACHINES, close, feed, flat, gradients, ours, placed, starting
from transcriptions.matrix import MATRIX

import minigrad as mg
import train
from minigrad import checkpoint, nn, optim
from minigrad.optim.matrix import matrix_view, merged

SQUARE = (
    (4, 4),
    (6, 2, 3),
    (6,),
    (),
    (0, 3),
)  # what a first gradient fills: no direction is left to rounding
PLAIN = ((4, 4), (3, 5), (5, 3), (5, 3), (0, 3))  # matrices alone
NAMES = ("Muon", "Shampoo", "SOAP")


def shapes_of(case):
    if case.rule != "Muon":
        return SQUARE
    return (*PLAIN, (6, 2, 3)) if case.options.get("filters") else PLAIN


def problem(case, seed, steps=60, missing=True):
    rng, shapes = np.random.default_rng(seed), shapes_of(case)
    return starting(rng, shapes), gradients(rng, steps, missing, shapes)


@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_60_steps_are_the_papers_on_both_machines_bit_for_bit(case):
    start, grads = problem(case, 1)
    (one, optimizer), (other, twin) = (ours(case, start, grads, machine=m) for m in MACHINES)
    close(one, case.paper(start, grads), case.tolerance)
    for a, b in zip(one, other, strict=True):
        assert a.tobytes() == b.tobytes()
    for p, q in zip(optimizer.parameters(), twin.parameters(), strict=True):
        for name, slot in optimizer.state.get(p, {}).items():
            assert np.asarray(slot).tobytes() == np.asarray(twin.state[q][name]).tobytes(), name


@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_float32_stays_near_the_vector(case):
    """Roots of nearly singular matrices magnify rounding: 2e-3 for those of Shampoo's vectors; else 5e-6."""
    start, grads = problem(case, 3)
    start = [p.astype("float32").astype("float64") for p in start]
    grads = [[None if g is None else g.astype("float32").astype("float64") for g in s] for s in grads]
    exact, found = flat(case.paper(start, grads)), flat(ours(case, start, grads, "float32")[0])
    bound = 2e-3 if case.rule == "Shampoo" else 5e-6
    assert np.linalg.norm(found - exact) <= bound * max(np.linalg.norm(exact), np.linalg.norm(flat(start)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_zero_gradients_change_nothing_and_make_no_nan(case, dtype):
    start = [np.array([[0, 1], [-3e-5, 6e4]]), np.zeros((2, 1))]
    params = placed(start, dtype)
    optimizer = optim.zoo[case.rule].make(params, **case.options | dict(weight_decay=0))
    feed(params, optimizer, [[np.zeros((2, 2)), np.zeros((2, 1))]] * 4, dtype)
    for p, b in zip(params, start, strict=True):
        assert (p.array == mg.tensor(b, dtype=dtype).array).all()
        for slot in optimizer.state[p].values():
            assert np.isfinite(np.asarray(slot, np.float64)).all()


@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_a_gradient_after_zeros_gives_finite_steps_in_float32(case):
    """No null space, no underflow of eps makes 0/0 or 0 inf."""
    rng = np.random.default_rng(0)
    params = placed([rng.normal(size=(4, 3))], "float32")
    options = case.options | (dict(eps=1e-60) if case.rule != "Muon" else {})
    optimizer = optim.zoo[case.rule].make(params, **options)
    for scale in (0, 0, 1e-20, 1, 0):
        feed(params, optimizer, [[scale * rng.normal(size=(4, 3))]], "float32")
        assert np.isfinite(params[0].array).all()


@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_half_parameters_step_in_float32_and_are_rounded_once(case):
    rng, shapes = np.random.default_rng(4), shapes_of(case)
    for dtype in ("float16", "bfloat16"):
        start = [mg.tensor(p, dtype=dtype).array for p in starting(rng, shapes)]
        drawn = gradients(rng, 1, False, shapes)[0]
        grads = [[mg.tensor(g, dtype=dtype).array for g in drawn]]
        half, optimizer = ours(case, start, grads, dtype)
        single, _ = ours(case, start, grads, "float32")
        for a, b in zip(half, single, strict=True):
            assert a.tobytes() == b.astype(a.dtype).tobytes()
        kinds = {t.dtype for s in optimizer.state.values() for t in s.values() if isinstance(t, mg.Tensor)}
        assert kinds == {mg.float32}


@pytest.mark.parametrize("how", ["state_dict", "pickle", "deepcopy"])
@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_k_steps_saved_loaded_and_k_more_are_2k_steps(case, how):
    start, grads = problem(case, 5, 14)
    whole, _ = ours(case, start, grads)
    params = placed(start, "float64")
    optimizer = case.make(params)
    feed(params, optimizer, grads[:7], "float64")
    if how == "state_dict":
        again = placed([p.array for p in params], "float64")
        other = case.make(again)
        state = optimizer.state_dict()
        json.dumps(state["param_groups"])
        other.load_state_dict(state)
    else:
        made = pickle.loads(pickle.dumps(optimizer)) if how == "pickle" else copy.deepcopy(optimizer)
        other, again = made, made.parameters()
        assert other.state_dict().keys() == optimizer.state_dict().keys()
    feed(again, other, grads[7:], "float64")
    for a, p in zip(whole, again, strict=True):
        assert a.tobytes() == p.array.tobytes()


@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_one_buffer_is_a_loop_over_tensors_bit_for_bit(case):
    start, grads = problem(case, 6, 8)
    together, optimizer = ours(case, start, grads)
    for p in optimizer.parameters():
        assert not p.arena.array[p.offset + p.numel() : p.stop].any()
        for name in optimizer.vectors(optimizer.param_groups[0]):
            assert not p.arena.state(optimizer, name)[p.offset + p.numel() : p.stop].any()
    for k, alone in enumerate(start):
        (one,), _ = ours(case, [alone], [[g[k]] for g in grads])
        assert one.tobytes() == together[k].tobytes()


@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_a_parameter_without_gradient_is_left_alone(case):
    start, grads = problem(case, 7, 3, missing=False)
    params = placed(start, "float32")
    optimizer = case.make(params)
    feed(params, optimizer, [[g[0], None, *g[2:]] for g in grads], "float32")
    assert (params[1].array == start[1].astype("float32")).all()
    assert optimizer.steps.get(params[1], 0) == 0 and not optimizer.state.get(params[1], {})


@pytest.mark.parametrize("case", MATRIX, ids=str)
def test_moving_to_another_type_takes_the_matrices_along(case):
    start, grads = problem(case, 8, 6, missing=False)
    holder = nn.ParameterList(placed(start, "float64"))
    optimizer = case.make(list(holder))
    feed(list(holder), optimizer, grads[:3], "float64")
    before = {k: np.asarray(v) for k, v in optimizer.state[holder[0]].items() if k != "step"}
    holder.to(mg.float32)
    after = {k: v for k, v in optimizer.state[holder[0]].items() if k != "step"}
    for name, value in before.items():
        assert after[name].dtype is mg.float32
        assert (after[name].array == value.astype("float32")).all(), name
    feed(list(holder), optimizer, grads[3:], "float32")
    assert all(np.isfinite(p.array).all() for p in holder)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Muon", {}),
        ("Muon", dict(filters=True, nesterov=False)),
        ("Shampoo", dict(refresh_period=4)),
        ("Shampoo", dict(refresh_period=4, grafting="adam", momentum=0.9, block_size=3, beta=0.9)),
        ("SOAP", dict(precondition_frequency=4)),
        ("SOAP", dict(precondition_frequency=4, normalize_grads=True, shampoo_beta=0.9)),
    ],
)
def test_a_device_gives_what_the_host_gives_and_is_never_read(name, options):
    """Also not at a refresh: the decompositions stay where they are."""
    rng = np.random.default_rng(0)
    filters = [(4, 2, 3)] * bool(options.get("filters", name != "Muon"))
    shapes = ((4, 4), (4, 4), *filters)
    start, grads = starting(rng, shapes), gradients(rng, 6, False, shapes)
    host = placed(start, "float32")
    feed(host, optim.zoo[name].make(host, **options), grads, "float32")
    with fake_cupy.installed() as device:
        params = [nn.Parameter(mg.tensor(p, dtype="float32", device="cuda")) for p in start]
        optimizer = optim.zoo[name].make(params, **options)
        for t, step in enumerate(grads):
            for p, g in zip(params, step, strict=True):
                p.grad = mg.tensor(g, dtype="float32", device="cuda")
            with device.counting() as counts:
                optimizer.step()
            assert counts.host_reads == [], t
            decompositions = sum(counts.launches[k] for k in ("eigh", "qr"))
            assert bool(decompositions) == (name != "Muon" and t in (0, 4)), (t, counts.launches)
        for p, q in zip(params, host, strict=True):
            np.testing.assert_allclose(p.cpu().array, q.array, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "shapes", "launches"),
    [
        ("Muon", [(4, 4)], 2 + 46 + 1),
        ("Muon", [(4, 4)] * 7, 2 + 46 + 7),  # one more for a matrix of a shape that is there
        ("Muon", [(4, 3), (3, 4)], 2 + 47 + 46 + 2),  # a tall one is laid down
        ("Shampoo", [(4, 4)], 2 + 7),
        ("SOAP", [(4, 4)], 4 + 19),
    ],
)
def test_launches_of_a_step_between_refreshes_are_pinned(name, shapes, launches):
    with fake_cupy.installed() as device:
        params = [nn.Parameter(mg.ones(*s, device="cuda")) for s in shapes]
        periods = dict(Shampoo=dict(refresh_period=9), SOAP=dict(precondition_frequency=9), Muon={})
        optimizer = optim.zoo[name].make(params, **periods[name])
        for _ in range(3):
            for p in params:
                p.grad = mg.ones(*p.shape, device="cuda")
            optimizer.step()
        for p in params:
            p.grad = p.slot
        with device.counting() as counts:
            optimizer.step()
        assert sum(counts.launches.values()) == launches, counts.launches


def test_a_captured_step_of_muon_has_the_bits_of_an_eager_one():
    """Its launches are the same at every t, those of AdamW for the rest among them."""

    def after(captured):
        with fake_cupy.installed():
            mg.manual_seed(0)
            model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
            model.to("cuda")
            optimizer = optim.Muon(optim.Muon.split(model), lr=0.02)
            x = mg.tensor(np.random.default_rng(0).normal(size=(8, 4)).astype("float32"), device="cuda")

            def step(x):
                optimizer.zero_grad()
                loss = (model(x) ** 2).sum()
                loss.backward()
                optimizer.step()
                return loss

            run = mg.graph.capture(step) if captured else step
            for t in range(12):
                for group in optimizer.param_groups:
                    group["lr"] = 0.02 / (t + 1)
                run(x)
            assert not captured or (run.graphs, run.why) == (1, "")
            return [p.cpu().array.tobytes() for p in model.parameters()]

    assert after(True) == after(False)


@pytest.mark.parametrize("name", NAMES)
def test_nan_gradients_show_in_the_parameters_and_raise_nothing(name):
    """As under every other rule: the loop that watches gradients decides."""
    params = placed([np.ones((3, 3))], "float32")
    optimizer = optim.zoo[name].make(params)
    for value in (1.0, np.nan, 1.0):
        feed(params, optimizer, [[np.full((3, 3), value)]], "float32")
    assert np.isnan(params[0].array).all()


@pytest.mark.parametrize("name", NAMES)
def test_state_of_another_shape_is_refused_and_changes_nothing(name):
    params, others = placed([np.ones((3, 2))], "float32"), placed([np.ones((2, 3))], "float32")
    mine, other = optim.zoo[name].make(params), optim.zoo[name].make(others)
    feed(params, mine, [[np.ones((3, 2))]] * 2, "float32")
    feed(others, other, [[np.ones((2, 3))]] * 2, "float32")
    before = {k: np.asarray(v).copy() for k, v in mine.state[params[0]].items()}
    with pytest.raises(ValueError, match="has shape"):
        mine.load_state_dict(other.state_dict())
    for k, v in mine.state[params[0]].items():
        assert (np.asarray(v) == before[k]).all()


def test_one_rule_makes_a_matrix_of_a_tensor():
    assert matrix_view((8, 3, 5, 5)) == (8, 75)
    assert matrix_view((8, 3)) == (8, 3)
    assert matrix_view((8,)) == (8,) and matrix_view(()) == (1,)
    assert merged((64, 3, 5, 5), 100) == (64, 75)
    assert merged((2, 1, 3, 4), 12) == (6, 4)
    assert merged((1, 1), 5) == (1,)


@pytest.mark.parametrize("name", NAMES)
def test_filters_are_rows_of_one_output_each(name):
    """A convolution's weight moves as the matrix that its product has."""
    rng = np.random.default_rng(2)
    start, grads = rng.normal(size=(4, 2, 3, 1)), [rng.normal(size=(4, 2, 3, 1)) for _ in range(5)]
    options = dict(filters=True) if name == "Muon" else dict(as_matrix=True)
    filters, matrix = placed([start], "float64"), placed([start.reshape(4, 6)], "float64")
    feed(filters, optim.zoo[name].make(filters, **options), [[g] for g in grads], "float64")
    feed(matrix, optim.zoo[name].make(matrix), [[g.reshape(4, 6)] for g in grads], "float64")
    assert filters[0].array.tobytes() == matrix[0].array.tobytes()


# ----------------------------------------------------------------------------------------------- the main job


def trained(folder, *options):
    (score,) = train.main(["--device", "cpu", "--model", "mlp", "--out", str(folder), *options])
    return score


def weights(folder):
    state, _ = checkpoint.load(next(folder.glob("*/best.safetensors")))
    return {k: v.array.tobytes() for k, v in state.items()}


@pytest.mark.parametrize("name", ["muon", "shampoo", "soap"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits_and_reads_digits(tmp_path, name):
    options = ("--optimizer", name, "--seed", "1")
    score = trained(tmp_path / "whole", *options, "--epochs", "8")
    trained(tmp_path / "parts", *options, "--epochs", "3")
    assert trained(tmp_path / "parts", *options, "--epochs", "8", "--resume") == score > 0.88
    assert weights(tmp_path / "whole") == weights(tmp_path / "parts")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["muon", "shampoo", "soap"])
def test_the_mlp_reads_at_least_91_5_percent_of_unseen_writers_digits(tmp_path, name):
    assert trained(tmp_path, "--optimizer", name) >= 0.915


@pytest.mark.slow
@pytest.mark.parametrize("name", ["muon", "shampoo", "soap"])
def test_the_cnn_knows_at_least_84_percent_of_the_clothes(tmp_path, name):
    (score,) = train.main(
        ["--device", "cpu", "--model", "cnn", "--out", str(tmp_path), "--optimizer", name, "--epochs", "20"]
    )
    assert score >= 0.84
