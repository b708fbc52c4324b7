"""Batches on a GPU that is not there (tests/fake_cupy): one upload of indices an epoch, a gather a batch."""

import threading

import fake_cupy
import numpy as np
import pytest

import minigrad as mg
from minigrad.data import (
    DataLoader,
    Dataset,
    Normalize,
    RandomCrop,
    Subset,
    TensorDataset,
    TextWindows,
    WeightedRandomSampler,
)


@pytest.fixture
def device():
    with fake_cupy.installed() as device:
        yield device


def rows(n=20):
    return TensorDataset(mg.arange(n * 4).reshape(n, 4), mg.arange(n))


LOADERS = {
    "shuffled": lambda where: DataLoader(rows(), 6, shuffle=True, device=where),
    "a subset": lambda where: DataLoader(Subset(rows(40), range(7, 27)), 6, shuffle=True, device=where),
    "a sampler": lambda where: DataLoader(
        rows(), 6, sampler=WeightedRandomSampler(np.ones(20), 20), device=where, prefetch=3
    ),
    "a batch sampler": lambda where: DataLoader(rows(), batch_sampler=[[4, 2, 0], [5], [6, 7]], device=where),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_an_epoch_uploads_its_indices_once_and_a_batch_is_a_gather(device, kind):
    loader = LOADERS[kind]("cuda")
    for _ in range(2):
        with device.counting() as epoch:
            loop = iter(loader)
            batches = [next(loop)]
            assert not any(thread.name == "minigrad-prefetch" for thread in threading.enumerate())
            batches += loop  # a thread would launch on another stream than the loop's
        assert len(epoch.uploads) == 1 and epoch.host_reads == [] and epoch.synchronizations == []
        assert dict(epoch.launches) == {"take": 2 * len(batches)}
        assert all(part.device == mg.device("cuda:0") for batch in batches for part in batch)


@pytest.mark.parametrize("kind", LOADERS)
def test_the_device_gets_the_batches_of_the_cpu(device, kind):
    epochs = []
    for where in ("cpu", "cuda"):
        mg.manual_seed(8)
        loader = LOADERS[kind](where)
        epochs.append([[part.cpu().numpy().tolist() for part in batch] for _ in "ab" for batch in loader])
    assert epochs[0] == epochs[1]


def test_file_order_needs_no_index_and_no_launch(device):
    loader = DataLoader(rows(), 6, device="cuda")
    with device.counting() as epoch:
        assert [len(y) for _, y in loader] == [6, 6, 6, 2]
    assert epoch.uploads == [] and epoch.launched == 0


def test_a_subset_brings_only_its_own_rows_to_the_device(device):
    loader = DataLoader(Subset(rows(40), [3, 1, 4]), 2, device="cuda")
    assert len(loader.rows) == 3 and [y.cpu().tolist() for _, y in loader] == [[3, 1], [4]]


def test_a_transform_runs_on_the_host_and_its_batch_is_uploaded_by_the_loop(device):
    images = np.random.default_rng(0).integers(0, 256, (10, 3, 6, 6)).astype(np.uint8)
    data = TensorDataset(mg.tensor(images), mg.arange(10))
    runs = []
    for where in ("cpu", "cuda"):
        mg.manual_seed(8)
        loader = DataLoader(
            data, 4, shuffle=True, device=where, prefetch=2,
            transform=lambda x, host: Normalize(0.5, 0.5)(RandomCrop(6, padding=1)(x, host)),
        )  # fmt: skip
        with device.counting() as epoch:
            batches = list(loader)
        assert len(epoch.uploads) == (0 if where == "cpu" else 2 * len(batches)) and epoch.launched == 0
        assert all(x.device == mg.resolve_device(where) for x, _ in batches)
        runs.append([part.cpu().numpy().tolist() for batch in batches for part in batch])
    assert runs[0] == runs[1]


def test_a_transform_of_data_on_the_device_names_the_cure(device):
    data = TensorDataset(mg.zeros(4, 3, 6, 6, device="cuda"))
    with pytest.raises(TypeError, match="keep the dataset on the CPU, and give device="):
        DataLoader(data, 2, transform=RandomCrop(6))


def test_items_are_placed_by_the_loop(device):
    class Items(Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, k):
            return {"x": np.full(3, k, np.float32), "y": k, "name": "n"}

    batches = list(DataLoader(Items(), 2, device="cuda", prefetch=1))
    assert [b["x"].device == b["y"].device == mg.device("cuda:0") for b in batches] == [True] * 3
    assert batches[1]["y"].cpu().tolist() == [2, 3] and batches[1]["name"] == ["n", "n"]


@pytest.mark.parametrize(("dtype", "launches"), [(np.int64, 2), (np.uint8, 3)])
def test_text_windows_are_two_launches_a_batch_and_one_upload_an_epoch(device, dtype, launches):
    tokens = (np.arange(300) % 64).astype(dtype)
    runs = []
    for where in ("cpu", "cuda"):
        windows = TextWindows(
            tokens, 8, 4, shuffle=True, generator=mg.Generator().manual_seed(1), device=where
        )
        list(windows)
        with device.counting() as epoch:
            batches = list(windows)
        if where == "cuda":
            assert len(epoch.uploads) == 1 and epoch.launched == launches * len(batches)
            assert epoch.host_reads == [] and epoch.python_scalars == []
            assert all(part.device == mg.device("cuda:0") for batch in batches for part in batch)
        runs.append([part.cpu().numpy().tolist() for batch in batches for part in batch])
    assert runs[0] == runs[1]


def test_text_on_the_device_stays_there(device):
    windows = TextWindows(mg.arange(20, device="cuda"), 6, 2)
    assert [x.device for x, _ in windows] == [mg.device("cuda:0")] * 3  # 2 windows, 1, and the rest


def test_a_loop_on_the_device_is_resumed_bit_for_bit(device):
    loader = DataLoader(rows(), 6, shuffle=True, device="cuda", generator=mg.Generator().manual_seed(2))
    loop = iter(loader)
    next(loop)
    state = loader.state_dict()
    rest = [y.cpu().tolist() for _, y in [*loop, *loader]]
    other = DataLoader(rows(), 6, shuffle=True, device="cuda", generator=mg.Generator().manual_seed(3))
    other.load_state_dict(state)
    assert [y.cpu().tolist() for _, y in [*other, *other]] == rest
