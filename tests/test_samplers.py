"""Samplers: which examples, how often, in which order; the seed fixes it and the state continues it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import oracle

import minigrad as mg
from minigrad.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

WEIGHTS = [0, 1, 2, 0, 5, 2, 0]
RANDOM = {
    "permutation": lambda g: RandomSampler(range(9), generator=g),
    "fewer": lambda g: RandomSampler(range(9), num_samples=4, generator=g),
    "more": lambda g: RandomSampler(range(9), num_samples=23, generator=g),
    "replacement": lambda g: RandomSampler(range(9), replacement=True, num_samples=30, generator=g),
    "subset": lambda g: SubsetRandomSampler([8, 2, 5, 5], generator=g),
    "weighted": lambda g: WeightedRandomSampler(WEIGHTS, 40, generator=g),
    "weighted once": lambda g: WeightedRandomSampler(WEIGHTS, 3, replacement=False, generator=g),
    "batches": lambda g: BatchSampler(RandomSampler(range(9), generator=g), 4, False),
}


def seeded(seed=3):
    return mg.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", RANDOM)
def test_the_seed_fixes_every_epoch_and_the_length_is_right(kind):
    first, second = RANDOM[kind](seeded()), RANDOM[kind](seeded())
    epochs = [list(first) for _ in range(4)]
    assert epochs == [list(second) for _ in range(4)]
    assert all(len(epoch) == len(first) for epoch in epochs)
    assert len({str(epoch) for epoch in epochs}) > 1
    assert epochs != [list(RANDOM[kind](seeded(4))) for _ in range(4)]


@pytest.mark.parametrize("kind", RANDOM)
def test_state_dict_continues_with_the_epochs_to_come(kind):
    sampler = RANDOM[kind](seeded())
    list(sampler)
    state = sampler.state_dict()
    to_come = [list(sampler) for _ in range(3)]
    other = RANDOM[kind](seeded(99))
    other.load_state_dict(state)
    assert [list(other) for _ in range(3)] == to_come


def test_without_a_generator_the_default_one_is_drawn_from():
    sampler = RandomSampler(range(50))
    mg.manual_seed(1)
    first = list(sampler)
    state = sampler.state_dict()
    second = list(sampler)
    mg.manual_seed(1)
    assert list(sampler) == first
    sampler.load_state_dict(state)
    assert list(sampler) == second


@given(st.integers(1, 12), st.integers(1, 40))
def test_more_samples_than_examples_are_whole_permutations_and_a_part(n, wanted):
    got = list(RandomSampler(range(n), num_samples=wanted))
    assert len(got) == wanted
    for start in range(0, wanted, n):
        part = got[start : start + n]
        assert len(set(part)) == len(part) and set(part) <= set(range(n))


def test_replacement_is_uniform_and_repeats():
    got = RandomSampler(range(10), replacement=True, num_samples=20_000, generator=seeded()).order()
    assert np.abs(np.bincount(got, minlength=10) / 2000 - 1).max() < 0.1


def test_weights_are_the_probabilities():
    got = WeightedRandomSampler(WEIGHTS, 50_000, generator=seeded()).order()
    share = np.bincount(got, minlength=7) / 50_000
    assert np.abs(share - np.array(WEIGHTS) / 10).max() < 0.01
    assert (share[[0, 3, 6]] == 0).all()


def test_without_replacement_each_comes_once_and_the_heavy_one_first_in_proportion():
    sampler = WeightedRandomSampler(WEIGHTS, 4, replacement=False, generator=seeded())
    epochs = np.array([sampler.order() for _ in range(6000)])
    assert all(sorted(epoch) == [1, 2, 4, 5] for epoch in epochs.tolist())
    first = np.bincount(epochs[:, 0], minlength=7) / 6000
    assert np.abs(first - np.array(WEIGHTS) / 10).max() < 0.03
    # drawn one after the other: given that 4 came first, 2 is second with probability 2 / (10 - 5)
    second = epochs[epochs[:, 0] == 4, 1]
    assert abs((second == 2).mean() - 0.4) < 0.04


def test_weights_may_be_a_tensor_or_an_array():
    orders = [
        WeightedRandomSampler(w, 20, generator=seeded()).order().tolist()
        for w in (WEIGHTS, np.array(WEIGHTS), mg.tensor(WEIGHTS, dtype=mg.float32))
    ]
    assert orders[0] == orders[1] == orders[2]


def test_names_and_arguments_are_those_of_pytorch():
    data = oracle("torch").utils.data
    import inspect

    for ours in (SequentialSampler, RandomSampler, SubsetRandomSampler, WeightedRandomSampler, BatchSampler):
        theirs = inspect.signature(getattr(data, ours.__name__)).parameters.values()
        mine = inspect.signature(ours).parameters.values()
        assert [(p.name, p.default) for p in mine] == [(p.name, p.default) for p in theirs]


@given(st.integers(0, 30), st.integers(1, 9), st.booleans())
def test_a_batch_sampler_cuts_as_pytorch_does(n, size, drop_last):
    theirs = oracle("torch").utils.data.BatchSampler(range(n), size, drop_last)
    ours = BatchSampler(SequentialSampler(range(n)), size, drop_last)
    assert list(ours) == list(theirs) and len(ours) == len(theirs)
    assert list(BatchSampler(range(n), size, drop_last)) == list(theirs)  # any iterable of indices does


def test_a_sampler_of_one_s_own_is_iterated():
    class Evens(Sampler):
        def __iter__(self):
            return iter(range(0, 10, 2))

        def __len__(self):
            return 5

    data = TensorDataset(mg.arange(10))
    assert [x.tolist() for (x,) in DataLoader(data, 3, sampler=Evens())] == [[0, 2, 4], [6, 8]]

    class Backwards(SequentialSampler):
        def __iter__(self):
            return reversed(range(len(self)))

    assert [x.tolist() for (x,) in DataLoader(data, 5, sampler=Backwards(data))] == [
        [9, 8, 7, 6, 5],
        [4, 3, 2, 1, 0],
    ]
    with pytest.raises(TypeError, match=r"Sampler must define __iter__\(\)"):
        list(DataLoader(data, sampler=Sampler()))


def test_the_loader_takes_every_sampler():
    data = TensorDataset(mg.arange(9))
    for kind, make in RANDOM.items():
        sampler = make(seeded())
        loader = DataLoader(
            data, **({"batch_sampler": sampler} if kind == "batches" else {"sampler": sampler})
        )
        flat = [k for (x,) in loader for k in x.tolist()]
        again = [k for part in make(seeded()) for k in (part if kind == "batches" else [part])]
        assert flat == again and len(loader) == len(sampler)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: RandomSampler(range(3), num_samples=0), "num_samples is 0"),
        (lambda: RandomSampler(range(3), num_samples=1.5), "num_samples is 1.5"),
        (lambda: list(RandomSampler([], num_samples=2)), "2 samples wanted from an empty dataset"),
        (lambda: BatchSampler(range(3), 0, False), "batch_size is 0"),
        (lambda: BatchSampler(range(3), True, False), "batch_size is True"),
        (lambda: WeightedRandomSampler([1, -1], 2), "finite and not negative"),
        (lambda: WeightedRandomSampler([0, 0], 2), "positive sum"),
        (lambda: WeightedRandomSampler([1, float("nan")], 2), "finite"),
        (lambda: WeightedRandomSampler([1, float("inf")], 2), "finite"),
        (
            lambda: WeightedRandomSampler([1, 0, 2], 3, replacement=False),
            "3 samples without .* from 2 indices",
        ),
        (lambda: WeightedRandomSampler([1, 2], 0), "num_samples is 0"),
    ],
)
def test_what_makes_no_sense_says_what_and_the_cure(make, says):
    with pytest.raises(ValueError, match=says):
        make()
