"""Datasets and the loader: every example once an epoch, in an order that the seed fixes."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import oracle

import minigrad as mg
from minigrad.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    RandomSampler,
    Subset,
    TensorDataset,
    random_split,
)


def rows(n):
    return TensorDataset(mg.arange(n), mg.arange(n) * 10)


class Squares(Dataset):
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, k):
        return np.float32([k, k * k]), k


@given(st.integers(1, 60), st.integers(1, 70), st.booleans(), st.booleans())
def test_an_epoch_has_every_example_once(n, batch, shuffle, drop_last):
    loader = DataLoader(rows(n), batch, shuffle=shuffle, drop_last=drop_last)
    batches = list(loader)
    assert len(batches) == len(loader)
    seen = [k for x, _ in batches for k in x.tolist()]
    if drop_last:
        assert all(len(x) == batch for x, _ in batches)
        assert len(seen) == n // batch * batch and len(set(seen)) == len(seen)
    else:
        assert sorted(seen) == list(range(n))
    assert all((y.numpy() == 10 * x.numpy()).all() for x, y in batches)
    if not shuffle:
        assert seen == list(range(len(seen)))


def test_every_epoch_has_its_own_order_and_the_seed_fixes_them():
    def epochs():
        mg.manual_seed(5)
        loader = DataLoader(rows(50), 7, shuffle=True)
        return [[k for x, _ in loader for k in x.tolist()] for _ in range(3)]

    first = epochs()
    assert first == epochs()
    assert first[0] != first[1] != first[2]


def test_an_own_generator_is_independent_of_the_global_seed():
    def epoch(seed):
        mg.manual_seed(seed)
        generator = mg.Generator().manual_seed(9)
        return [k for x, _ in DataLoader(rows(30), 4, shuffle=True, generator=generator) for k in x.tolist()]

    assert epoch(1) == epoch(2)


def test_the_full_batch_is_batch_size_none_or_the_size():
    for size in (None, 20, 500):
        ((x, y),) = DataLoader(rows(20), size)
        assert x.shape == y.shape == (20,)


def test_a_dataset_of_items_is_stacked_with_their_types():
    x, y = next(iter(DataLoader(Squares(10), 4)))
    assert x.shape == (4, 2) and x.dtype is mg.float32 and y.dtype is mg.int64
    assert x.numpy()[3].tolist() == [3, 9]


def test_dicts_strings_and_nested_items_are_stacked():
    class Nested(Squares):
        def __getitem__(self, k):
            return {"a": mg.tensor([float(k)]), "b": (k, "name"), "c": float(k), "d": True}

    batch = next(iter(DataLoader(Nested(3), 3)))
    assert (
        batch["a"].shape == (3, 1) and batch["b"][0].tolist() == [0, 1, 2] and batch["b"][1] == ["name"] * 3
    )
    assert batch["c"].dtype is mg.float64 and batch["d"].dtype is mg.bool


def test_a_sampler_says_which_and_a_collate_fn_how():
    loader = DataLoader(Squares(10), 2, sampler=[8, 1, 5], collate_fn=lambda items: [k for _, k in items])
    assert list(loader) == [[8, 1], [5]] and len(loader) == 2
    assert [x.tolist() for x, _ in DataLoader(rows(10), 2, sampler=[8, 1, 5])] == [[8, 1], [5]]


def test_batches_of_images_equal_numpy_indexing():
    images = np.random.rand(11, 3, 4).astype(np.float32)
    order = [4, 10, 0, 7]
    ((x,),) = DataLoader(TensorDataset(mg.tensor(images)), 4, sampler=order)
    assert np.array_equal(x.numpy(), images[order])


def test_random_split_gives_disjoint_parts_of_the_sizes_asked_for():
    parts = random_split(rows(23), [0.5, 0.3, 0.2], generator=mg.Generator().manual_seed(0))
    assert [len(p) for p in parts] == [12, 7, 4]
    seen = [int(p[k][0]) for p in parts for k in range(len(p))]
    assert sorted(seen) == list(range(23))
    assert [len(p) for p in random_split(rows(23), [20, 3])] == [20, 3]


def test_a_subset_is_a_dataset():
    loader = DataLoader(Subset(rows(10), [9, 3, 3]), 2)
    assert [x.tolist() for x, _ in loader] == [[9, 3], [3]]


def test_a_subset_of_a_subset_is_gathered_as_its_items_are():
    inner = Subset(rows(20), [3, 1, 4, 15, 9, 2, 6])
    outer = Subset(inner, [6, 0, 0, 5, 2])
    expected = [[int(v) for v in item] for item in (outer[k] for k in range(5))]
    assert [b for x, y in DataLoader(outer, 2) for b in zip(x.tolist(), y.tolist())] == [
        tuple(item) for item in expected
    ]
    by_items = RandomSampler(range(5), generator=mg.Generator().manual_seed(3))
    shuffled = DataLoader(outer, 2, shuffle=True, generator=mg.Generator().manual_seed(3))
    assert [k for x, _ in shuffled for k in x.tolist()] == [expected[i][0] for i in by_items]


def test_datasets_one_after_the_other():
    both = Subset(rows(10), [7, 8]) + rows(3)
    assert isinstance(both, ConcatDataset) and len(both) == 5 and both.cumulative_sizes == [2, 5]
    assert [int(both[k][0]) for k in range(5)] == [7, 8, 0, 1, 2]
    assert int(both[-1][0]) == 2 and int(both[-5][0]) == 7
    assert [x.tolist() for x, _ in DataLoader(both, 2)] == [[7, 8], [0, 1], [2]]


def test_a_batch_sampler_says_which_and_how_many():
    loader = DataLoader(rows(10), batch_sampler=[[1, 2, 3], [], [9], [0, 0]])
    assert len(loader) == 4
    assert [x.tolist() for x, _ in loader] == [[1, 2, 3], [], [9], [0, 0]]


ITEMS = {
    "int": 3,
    "float": 0.5,
    "bool": True,
    "float32": np.float32(1.5),
    "float64": np.float64(1.5),
    "uint8": np.uint8(7),
    "bool_": np.bool_(True),
    "array": np.arange(3, dtype=np.int32),
    "tuple": (1, np.zeros(2)),
    "nested": {"a": [1.0, {"b": np.float32(2)}]},
    "string": "word",
    "bytes": b"word",
}


@pytest.mark.parametrize("kind", ITEMS)
def test_items_are_stacked_to_the_types_of_pytorch(kind):
    default_collate = oracle("torch").utils.data.default_collate

    def plain(batch):
        if isinstance(batch, dict):
            return {k: plain(v) for k, v in batch.items()}
        if isinstance(batch, (list, tuple)):
            return [plain(v) for v in batch]
        return (str(batch.dtype).split(".")[-1], batch.tolist()) if hasattr(batch, "dtype") else batch

    (got,) = DataLoader([ITEMS[kind]] * 3, 3)
    assert plain(got) == plain(default_collate([ITEMS[kind]] * 3))


def test_a_named_tuple_stays_one():
    class Pair(NamedTuple):
        left: int
        right: float

    (batch,) = DataLoader([Pair(1, 2.0), Pair(3, 4.0)], 2, device="cpu")
    assert isinstance(batch, Pair) and batch.left.tolist() == [1, 3] and batch.right.tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: DataLoader(rows(3), 0), ValueError, "batch_size is 0"),
        (lambda: DataLoader(rows(3), 2.0), ValueError, "batch_size is 2.0"),
        (lambda: DataLoader(rows(3), num_workers=2), ValueError, "num_workers=2"),
        (lambda: DataLoader(rows(3), num_workers=2), ValueError, "prefetch=N"),
        (lambda: DataLoader(rows(3), prefetch=-1), ValueError, "prefetch is -1"),
        (lambda: DataLoader(rows(3), shuffle=True, sampler=[0]), ValueError, "exclude each other"),
        (lambda: DataLoader(rows(3), 2, batch_sampler=[[0]]), ValueError, "batch_sampler excludes"),
        (lambda: DataLoader(rows(3), shuffle=True, batch_sampler=[[0]]), ValueError, "batch_sampler excl"),
        (lambda: ConcatDataset([]), ValueError, "no datasets"),
        (lambda: ConcatDataset([rows(2), rows(3)])[5], IndexError, "index 5 is outside of 5 items"),
        (lambda: ConcatDataset([rows(2), rows(3)])[-6], IndexError, "index -6 is outside of 5 items"),
        (lambda: TensorDataset(), ValueError, "no tensors"),
        (lambda: TensorDataset(mg.zeros(3), mg.zeros(4)), ValueError, r"\[3, 4\] rows"),
        (lambda: random_split(rows(5), [2, 2]), ValueError, "add up to 4"),
        (lambda: random_split(rows(5), [0.5, 0.2]), ValueError, "add up to 0.7"),
        (lambda: next(iter(DataLoader([object()], 1))), TypeError, "object"),
        (lambda: TensorDataset([1.0, 2.0]), TypeError, "list, no Tensor"),
        (lambda: TensorDataset(mg.tensor(1.0)), ValueError, "a 0-d tensor has no rows"),
        (lambda: random_split(rows(5), [6, -1]), ValueError, "none may be negative"),
        (lambda: DataLoader(None), TypeError, "dataset is a NoneType"),
        (lambda: list(DataLoader(rows(3), sampler=[0, 7])), IndexError, "numbered from 0 to 2"),
        (lambda: list(DataLoader([mg.ones(2), mg.ones(3)], 2)), ValueError, r"shapes \(2,\), \(3,\) cannot"),
        (lambda: len(Dataset()), TypeError, "Dataset must define __len__"),
    ],
)
def test_what_makes_no_sense_says_what_and_the_cure(make, error, says):
    with pytest.raises(error, match=says):
        make()


def test_an_empty_dataset_has_no_batches():
    empty = TensorDataset(mg.zeros(0, 3))
    assert list(DataLoader(empty, 4)) == [] and len(DataLoader(empty, 4, shuffle=True)) == 0
