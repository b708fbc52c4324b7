"""Random numbers: Philox has its published answers, seeds and states decide every draw, and distributions
have their moments."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import random


def test_philox_has_the_published_answers():
    """Random123's known-answer vectors of Philox4x32-10 [Salmon et al. 2011]."""
    ones, pi = (0xFFFFFFFF,) * 4, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    vectors = [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (ones, ones[:2], "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (pi, (0xA4093822, 0x299F31D0), "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ]
    for counter, key, expected in vectors:
        assert " ".join(f"{int(w):08x}" for w in random.philox4x32(counter, key)) == expected


def test_philox_draws_are_addressed_by_seed_offset_and_element():
    seed, offset = 5 + (9 << 32), 3 + (7 << 32)
    words = random.philox_bits(seed, offset, 10)
    for i in range(10):
        block = random.philox4x32((i // 4, 0, 3, 7), (5, 9))
        assert words[i] == block[i % 4]
    assert random.philox_bits(seed, offset, 3).tolist() == words[:3].tolist()
    u = random.philox_uniform(1, 2, 100_000)
    assert u.dtype == np.float32 and u.min() >= 0 and u.max() < 1
    assert abs(u.mean() - 0.5) < 0.005 and abs(u.var() - 1 / 12) < 0.002
    assert len(random.philox_bits(1, 2, 0)) == 0


def test_offsets_are_reserved_and_start_anew_with_the_seed():
    mg.manual_seed(11)
    assert [random.next_offset(), random.next_offset(3), random.next_offset()] == [0, 1, 4]
    assert random.philox_state() == (11, 5)
    mg.manual_seed(11)
    assert random.philox_state() == (11, 0)


DRAWS = {
    "rand": lambda g: mg.rand(5, generator=g),
    "randn": lambda g: mg.randn(5, generator=g),
    "randint": lambda g: mg.randint(0, 100, (5,), generator=g),
    "randperm": lambda g: mg.randperm(9, generator=g),
    "normal": lambda g: mg.normal(0.0, 1.0, (5,), generator=g),
    "normal of tensors": lambda g: mg.normal(mg.zeros(5), mg.ones(5), generator=g),
    "bernoulli": lambda g: mg.bernoulli(mg.full((40,), 0.5), generator=g),
    "multinomial": lambda g: mg.multinomial(mg.ones(50), 9, generator=g),
    "multinomial with replacement": lambda g: mg.multinomial(mg.ones(50), 9, True, generator=g),
    "uniform_": lambda g: mg.zeros(5).uniform_(generator=g),
    "normal_": lambda g: mg.zeros(5).normal_(generator=g),
    "exponential_": lambda g: mg.zeros(5).exponential_(generator=g),
    "bernoulli_": lambda g: mg.zeros(40).bernoulli_(generator=g),
    "random_": lambda g: mg.zeros(5).random_(1000, generator=g),
    "rand_like": lambda g: mg.rand_like(mg.zeros(5), generator=g),
    "randn_like": lambda g: mg.randn_like(mg.zeros(5), generator=g),
    "randint_like": lambda g: mg.randint_like(mg.zeros(5), 100, generator=g),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_seed_decides_and_states_continue(name):
    draw = DRAWS[name]
    for g in (None, mg.Generator()):
        source = mg.default_generator if g is None else g
        source.manual_seed(3)
        first, state = draw(g).tolist(), source.get_state()
        second = draw(g).tolist()
        assert first != second
        source.set_state(state)
        assert draw(g).tolist() == second
        source.manual_seed(3)
        assert draw(g).tolist() == first


def test_generators_are_independent_and_their_states_portable():
    mg.manual_seed(1)
    expected = mg.rand(3).tolist()
    mg.manual_seed(1)
    mg.rand(7, generator=mg.Generator(5))
    assert mg.rand(3).tolist() == expected
    g = mg.Generator("cpu").manual_seed(-1)
    assert g.initial_seed() == 2**64 - 1
    g.host.integers(0, 7, 3, dtype=np.uint32)  # leaves half a word over: the state holds it too
    g.next_offset(5)
    other = g.clone_state()
    assert repr(other) == repr(g) and other.philox_state() == (2**64 - 1, 5)
    assert (
        other.host.integers(0, 7, 5, dtype=np.uint32).tolist()
        == g.host.integers(0, 7, 5, dtype=np.uint32).tolist()
    )
    state = mg.get_rng_state()
    assert state.dtype is mg.uint8 and state.numel() == 64
    assert mg.Generator().initial_seed() != mg.Generator().initial_seed()


def test_a_state_written_today_still_reads():
    """The 64 bytes are a file format: two streams, seed, offset."""
    mg.manual_seed(42)
    mg.rand(3)
    random.next_offset(2)
    packed = bytes(mg.get_rng_state().tolist()).hex()
    assert packed == (
        "c928b66781ea7cc7dff2d8a59327a7e3ffab258de2f2ca666e41a8c9365450fa0000000000000000"
        "2a0000000000000002000000000000000100000000000000"
    )
    assert round(float(mg.rand(1, dtype=mg.float64)), 12) == 0.697368029059


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_uniform_numbers_reach_neither_one_nor_another_range(dtype):
    u = mg.rand(100_000, dtype=getattr(mg, dtype)).double().numpy()
    assert u.min() >= 0 and u.max() < 1
    assert abs(u.mean() - 0.5) < 0.01
    v = mg.zeros(1000, dtype=getattr(mg, dtype)).uniform_(-2, 3).double().numpy()
    assert -2 <= v.min() < -1.9 and 2.9 < v.max() <= 3


def test_distributions_have_their_moments():
    mg.manual_seed(0)
    n = 200_000
    z = mg.randn(n, dtype=mg.float64).numpy()
    assert abs(z.mean()) < 0.01 and abs(z.var() - 1) < 0.02 and abs((z**3).mean()) < 0.05
    w = mg.normal(mg.tensor([[1.0], [-2.0]]), mg.tensor([0.5, 3.0]).repeat(n // 2)).double().numpy()
    assert np.allclose(w.mean(axis=1), [1, -2], atol=0.05)
    e = mg.zeros(n).exponential_(2.0).double().numpy()
    assert abs(e.mean() - 0.5) < 0.01 and e.min() > 0
    b = mg.bernoulli(mg.full((n,), 0.3)).double().numpy()
    assert abs(b.mean() - 0.3) < 0.01 and set(b) == {0.0, 1.0}
    i = mg.randint(-3, 4, (n,)).numpy()
    assert sorted(set(i.tolist())) == list(range(-3, 4)) and abs(i.mean()) < 0.03
    assert sorted(mg.randperm(50).tolist()) == list(range(50))
    assert mg.randint(5, (2,), dtype=mg.float32).dtype is mg.float32


def test_multinomial_draws_by_weight_and_never_the_impossible():
    mg.manual_seed(0)
    weights = mg.tensor([[1.0, 3.0, 0.0, 6.0], [0.0, 0.0, 1.0, 0.0]])
    drawn = mg.multinomial(weights, 20_000, replacement=True).numpy()
    shares = np.bincount(drawn[0], minlength=4) / 20_000
    np.testing.assert_allclose(shares, [0.1, 0.3, 0, 0.6], atol=0.02)
    assert shares[2] == 0 and (drawn[1] == 2).all()
    firsts = [mg.multinomial(weights[0], 3).tolist() for _ in range(2000)]
    assert all(sorted(row) == [0, 1, 3] for row in firsts)
    assert abs(np.mean([row[0] == 3 for row in firsts]) - 0.6) < 0.05


def test_random_fills_of_every_dtype_stay_within_its_range():
    for name in "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64".split():
        d = getattr(mg, name)
        values = mg.zeros(200, dtype=d).random_()
        assert values.dtype is d and values.min().item() >= 0 and values.max().item() > 0
        assert not math.isinf(float(values.max().item()))
    assert set(mg.zeros(100).random_(2, 5).tolist()) == {2.0, 3.0, 4.0}


REFUSED = {
    "rand of integers": (lambda: mg.rand(2, dtype=mg.int64), TypeError, "rand: int64 is not a floating type"),
    "randint bounds": (
        lambda: mg.randint(5, 3, (2,)),
        ValueError,
        r"randint: there is no integer in \[5, 3\)",
    ),
    "randint without size": (lambda: mg.randint(5), TypeError, "randint: the forms are"),
    "probability": (
        lambda: mg.bernoulli(mg.tensor([0.5, 2.0])),
        ValueError,
        r"bernoulli: .*outside \[0, 1\]",
    ),
    "negative std": (lambda: mg.normal(0.0, -1.0, (2,)), ValueError, "normal: std = -1.0 is negative"),
    "weights": (
        lambda: mg.multinomial(mg.tensor([1.0, -1.0]), 1),
        ValueError,
        "multinomial: weights are finite",
    ),
    "too few weights": (lambda: mg.multinomial(mg.tensor([1.0, 0.0]), 2), ValueError, "use replacement=True"),
    "interval": (lambda: mg.ones(2).uniform_(2, 1), ValueError, r"uniform_: \[2, 1\) is no interval"),
    "generator": (
        lambda: mg.rand(2, generator=np.random.default_rng(0)),
        TypeError,
        "is no minigrad.Generator",
    ),
    "seed": (lambda: mg.manual_seed(2**64), ValueError, "manual_seed: 18446744073709551616 does not fit"),
    "state": (lambda: mg.set_rng_state(mg.zeros(3, dtype=mg.uint8)), ValueError, "set_state: 3 bytes"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_names_the_value_and_cure(what):
    call, error, message = REFUSED[what]
    with pytest.raises(error, match=message):
        call()
