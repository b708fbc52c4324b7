"""What is particular to Lion, Adan, AdEMAMix and Prodigy; forms of others that are not theirs."""

import math

import fake_cupy
import numpy as np
import pytest
from oracle import oracle
from test_rules import MACHINES, feed, flat, gradients, ours, placed, starting
from transcriptions import case
from transcriptions.libraries import kozistr, optax, package
from transcriptions.modern import adan, ademamix, lion, prodigy, single

import kernels
import minigrad as mg
from minigrad import nn, optim


def stepped(rule, start, grads, dtype="float64", **options):
    params = placed(start, dtype)
    optimizer = rule(params, **options)
    feed(params, optimizer, grads, dtype)
    return params, optimizer


def apart(xs, ys):
    return np.abs(flat(xs) - flat(ys)).max()


# ----------------------------------------------------------------------------- known to be other rules


@pytest.mark.oracle
def test_optax_adan_is_another_rule():
    rng = np.random.default_rng(0)
    start, grads = starting(rng), gradients(rng, 30, missing=False)
    theirs = optax(lambda o: o.adan(0.01, b1=0.98, b2=0.92, b3=0.99)).run(start, grads)
    mine = ours(case("Adan", adan, dict(lr=0.01)), start, grads)[0]
    assert apart(mine, theirs) > 1e-3


@pytest.mark.oracle
def test_simplified_ademamix_is_another_rule():
    rng = np.random.default_rng(0)
    start, grads = starting(rng), gradients(rng, 30, missing=False)
    theirs = optax(lambda o: o.contrib.simplified_ademamix(0.01)).run(start, grads)
    mine = ours(case("AdEMAMix", ademamix, dict(lr=0.01)), start, grads)[0]
    assert apart(mine, theirs) > 1e-3


def test_adan_with_the_papers_betas_is_not_adan_with_ours():
    rng = np.random.default_rng(0)
    start, grads = starting(rng), gradients(rng, 30)
    one, _ = stepped(optim.Adan, start, grads, betas=(0.98, 0.92, 0.99))
    other, _ = stepped(optim.Adan, start, grads, betas=(0.02, 0.08, 0.01))
    assert apart([p.array for p in one], [p.array for p in other]) > 1e-3


def test_the_proximal_decay_is_not_adamws():
    rng = np.random.default_rng(0)
    start, grads = starting(rng), gradients(rng, 30)
    made = [stepped(optim.Adan, start, grads, lr=0.01, weight_decay=1.0, no_prox=n)[0] for n in (False, True)]
    assert apart(*[[p.array for p in ps] for ps in made]) > 1e-3


# ------------------------------------------------------------------------------------------------ Lion, Adan


@pytest.mark.parametrize("machine", MACHINES)
def test_lion_moves_every_element_by_lr_and_none_without_a_gradient(machine):
    with kernels.use(machine):
        (p,), _ = stepped(optim.Lion, [np.zeros(4)], [[np.array([1e-30, -1e30, 0.0, -0.0])]], lr=0.25)
    assert p.array.tolist() == [-0.25, 0.25, 0, 0]


def test_lion_with_equal_betas_is_the_sign_of_a_momentum():
    rng = np.random.default_rng(0)
    start, grads = starting(rng), gradients(rng, 30)
    mine, _ = stepped(optim.Lion, start, grads, lr=0.01, betas=(0.9, 0.9))
    for k, p in enumerate(mine):
        x, m = start[k], np.zeros_like(start[k])
        for g in [step[k] for step in grads if step[k] is not None]:
            m = 0.9 * m + (1 - 0.9) * g
            x = x - 0.01 * np.sign(m)
        np.testing.assert_allclose(p.array, x, rtol=1e-12, atol=1e-14)


def test_adan_keeps_the_last_gradient_over_steps_without_one():
    grads = [[np.array([1.0])], [None], [np.array([3.0])]]
    (p,), optimizer = stepped(optim.Adan, [np.zeros(1)], grads, lr=0.1)
    assert optimizer.steps[p] == 2
    np.testing.assert_allclose(np.asarray(optimizer.state[p]["exp_avg_diff"]), [0.08 * 2.0], rtol=1e-14)
    np.testing.assert_array_equal(np.asarray(optimizer.state[p]["previous_grad"]), [3.0])


# -------------------------------------------------------------------------------------------------- AdEMAMix


def test_ademamix_lets_the_long_memory_in_slowly():
    made = optim.AdEMAMix([nn.Parameter(mg.ones(1))], beta3_warmup=100, alpha_warmup=50)
    group = made.param_groups[0]
    pairs = [made.schedules(group, t) for t in (1, 25, 50, 75, 100, 1000)]
    assert [a for a, _ in pairs] == [0.1, 2.5, 5.0, 5.0, 5.0, 5.0]
    betas = [b for _, b in pairs]
    assert betas == sorted(betas) and betas[0] > 0.9 and betas[4:] == [0.9999, 0.9999]
    memory = [-1 / math.log(b) for b in betas[:4]]  # in a straight line
    assert np.allclose(np.diff(memory) / np.diff([1, 25, 50, 75]), (memory[1] - memory[0]) / 24)


def test_ademamix_without_the_long_memory_is_adamw():
    rng = np.random.default_rng(0)
    start, grads = starting(rng), gradients(rng, 30)
    mine, _ = stepped(optim.AdEMAMix, start, grads, lr=0.01, alpha=0.0, weight_decay=0.1)
    adamw, _ = stepped(optim.AdamW, start, grads, lr=0.01, weight_decay=0.1)
    np.testing.assert_allclose(flat([p.array for p in mine]), flat([p.array for p in adamw]), rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (dict(alpha=-1.0), "AdEMAMix: Invalid alpha value: -1.0"),
        (dict(beta3_warmup=0), "AdEMAMix: Invalid beta3_warmup value: 0"),
        (dict(alpha_warmup=float("nan")), "AdEMAMix: Invalid alpha_warmup value: nan"),
        (dict(betas=(0.9, 0.99)), r"AdEMAMix: betas are \(0.9, 0.99\); they are three numbers"),
    ],
)
def test_ademamix_refuses_options_out_of_range(options, match):
    with pytest.raises(ValueError, match=match):
        optim.AdEMAMix([nn.Parameter(mg.ones(2))], **options)


# --------------------------------------------------------------------------------------------------- Prodigy


@pytest.mark.oracle
def test_prodigys_defaults_are_the_packages():
    for seed, library, tolerance in (
        (6, package("prodigyopt", "Prodigy"), 1e-12),
        (2, kozistr("Prodigy"), 1e-11),  # its sums are float32
    ):
        rng = np.random.default_rng(seed)
        start, grads = starting(rng), gradients(rng, missing=False)
        mine, optimizer = ours(case("Prodigy", prodigy, {}), start, grads)
        assert apart(mine, library.run(start, grads)) < tolerance
        assert float(optimizer.param_groups[0]["d"]) > 5e-6 or seed == 2


@pytest.mark.oracle
def test_prodigy_in_float32_is_nearer_than_the_package():
    """With d0 = 1e-6 and parameters of order 1 float32 keeps an ulp or ten of p0 - p, and d is made of it."""
    torch, package = oracle("torch"), oracle("prodigyopt")
    rng = np.random.default_rng(3)
    start = [single(p) for p in starting(rng)]
    grads = [[None if g is None else single(g) for g in step] for step in gradients(rng)]
    exact = flat(prodigy([p.copy() for p in start], grads, stored=single))
    mine = flat(p.array for p in stepped(optim.Prodigy, start, grads, "float32")[0])
    theirs = [torch.nn.Parameter(torch.tensor(p, dtype=torch.float32)) for p in start]
    other = package.Prodigy(theirs)
    for step in grads:
        for p, g in zip(theirs, step, strict=True):
            p.grad = None if g is None else torch.tensor(g, dtype=torch.float32)
        other.step()
    error, packages = (np.linalg.norm(x - exact) for x in (mine, flat(p.detach() for p in theirs)))
    assert error < 5e-6 * np.linalg.norm(exact) and error < packages


@pytest.mark.oracle
def test_prodigys_arguments_are_the_packages():
    import inspect

    theirs = inspect.signature(oracle("prodigyopt").Prodigy).parameters
    mine = inspect.signature(optim.Prodigy).parameters
    assert {n: p.default for n, p in mine.items()} == {n: p.default for n, p in theirs.items()}
    assert list(mine) == list(theirs)


def test_prodigy_sees_all_groups_as_one():
    rng = np.random.default_rng(3)
    start, grads = starting(rng), gradients(rng, 30)
    one, single = stepped(optim.Prodigy, start, grads, d0=1e-3)
    params = placed(start, "float64")
    several = optim.Prodigy([dict(params=params[:2]), dict(params=params[2:])], d0=1e-3)
    feed(params, several, grads, "float64")
    for p, q in zip(one, params, strict=True):
        np.testing.assert_allclose(q.array, p.array, rtol=1e-12, atol=1e-14)
    first, second = several.param_groups
    assert first["d"] is second["d"] and float(first["d"]) == pytest.approx(
        float(single.param_groups[0]["d"])
    )
    assert first["k"] == second["k"] == 30


def test_prodigy_finds_the_distance_on_a_quadratic():
    p = nn.Parameter(mg.zeros(50, dtype="float64"))
    target = mg.tensor(np.random.default_rng(0).normal(size=50))
    optimizer = optim.Prodigy([p])
    for _ in range(600):
        optimizer.zero_grad()
        ((p - target) ** 2).sum().backward()
        optimizer.step()
    d = float(optimizer.param_groups[0]["d"])
    assert float(((p - target) ** 2).sum()) < 1e-6 and d <= float(abs(target).max())
    assert d > 1e-3  # a thousand times what it began with


def test_prodigy_stands_still_until_a_gradient_is_not_zero_then_begins():
    grads = [[np.zeros(3)]] * 3 + [[np.array([1.0, 0.0, -2.0])]] * 5
    start = [np.array([1.0, 2.0, 3.0])]
    (p,), optimizer = stepped(optim.Prodigy, start, grads[:3], weight_decay=0.5)
    assert p.array.tolist() == [1, 2, 3] and float(optimizer.param_groups[0]["d"]) == 1e-6
    feed([p], optimizer, grads[3:], "float64")
    assert p.array[0] < 1 and p.array[2] > 3 and np.isfinite(p.array).all()


def test_prodigy_with_lr_zero_stands_still_and_groups_have_one_lr():
    rng = np.random.default_rng(3)
    start, grads = starting(rng), gradients(rng, 4, missing=False)
    params = placed(start, "float64")
    optimizer = optim.Prodigy([dict(params=params[:2]), dict(params=params[2:], lr=0.0)], d0=1e-2)
    feed(params, optimizer, grads, "float64")
    assert (params[3].array == start[3]).all() and (params[0].array != start[0]).any()
    optimizer.param_groups[0]["lr"] = 0.0
    before = params[0].array.copy()
    feed(params, optimizer, grads, "float64")
    assert (params[0].array == before).all()
    optimizer.param_groups[0]["lr"] = 0.5
    optimizer.param_groups[1]["lr"] = 1.0
    with pytest.raises(ValueError, match=r"Prodigy: groups with different lr, 0.5, 1.0; .* one lr, or 0"):
        optimizer.step()


@pytest.mark.parametrize("groups", [1, 3])
def test_prodigy_is_two_launches_a_group_and_one_without_a_host_read(groups):
    with fake_cupy.installed() as device:
        params = [nn.Parameter(mg.ones(40, 30, device="cuda")) for _ in range(6)]
        optimizer = optim.Prodigy([dict(params=params[k::groups]) for k in range(groups)], slice_p=3)
        house = [p for group in optimizer.param_groups for p in group["params"]]
        for p in house:
            p.grad = mg.ones(40, 30, device="cuda")
        optimizer.step()
        for p in house:
            p.grad = p.slot
        with device.counting() as counts:
            optimizer.step()
        assert counts.host_reads == []
        names = ("prodigy_moments", "prodigy_estimate", "prodigy")
        assert [counts.launches[n] for n in names] == [groups, 1, groups]
        assert sum(counts.launches.values()) == 2 * groups + 1
        assert optimizer.param_groups[0]["d"].device.type == "cuda"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (dict(d0=0.0), "Prodigy: Invalid d0 value: 0.0"),
        (dict(d_coef=-1.0), "Prodigy: Invalid d_coef value: -1.0"),
        (dict(growth_rate=0.9), "Prodigy: Invalid growth_rate value: 0.9; it must be a number of at least 1"),
        (dict(growth_rate=float("nan")), "Prodigy: Invalid growth_rate value: nan"),
        (dict(beta3=1.0), "Prodigy: Invalid beta3 value: 1.0"),
        (dict(slice_p=0), "Prodigy: Invalid slice_p value: 0; it must be a positive whole number"),
    ],
)
def test_prodigy_refuses_options_out_of_range(options, match):
    with pytest.raises(ValueError, match=match):
        optim.Prodigy([nn.Parameter(mg.ones(2))], **options)


def test_lion_transcription_disagrees_with_sign_of_zero_as_one():
    """The test of Lion's zero has teeth: with sign(0) = 1 the vectors would differ."""
    p = lion(np.zeros(2), [np.array([0.0, 1.0])], lr=0.1)
    assert p.tolist() == [0.0, -0.1]
