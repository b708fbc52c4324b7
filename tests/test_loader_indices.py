"""Epochs as indices: gathered in a captured step they are the batches of the loop, and count as they do."""

import numpy as np
import pytest
from capturing import fake_device

import minigrad as mg
from minigrad import data
from minigrad.data import DataLoader, Subset, TensorDataset, TextWindows


@pytest.fixture
def device():
    with fake_device() as device:
        yield device


def images(n=22, **options):
    x = mg.tensor(np.arange(n * 3, dtype="f4").reshape(n, 3))
    return DataLoader(TensorDataset(x, mg.arange(n)), 4, device="cuda", **options)


def of_a_subset(**options):
    x = mg.tensor(np.arange(60, dtype="f4").reshape(20, 3))
    return DataLoader(Subset(TensorDataset(x), [3, 1, 4, 15, 9, 2, 6]), 2, device="cuda", **options)


def text(**options):
    return TextWindows(np.arange(200) % 7, 5, 4, device="cuda", batches=6, **options)


LOADERS = {
    "shuffled": lambda g: images(shuffle=True, generator=g),
    "in order": lambda g: images(),
    "without the rest": lambda g: images(shuffle=True, generator=g, drop_last=True),
    "a subset": lambda g: of_a_subset(shuffle=True, generator=g),
    "text": lambda g: text(shuffle=True, generator=g),
}


def listed(batch):
    return [t.tolist() for t in batch]


@pytest.mark.parametrize("name", LOADERS)
def test_gathered_batches_are_those_of_the_loop(device, name):
    plain, other = (LOADERS[name](mg.Generator(5)) for _ in range(2))
    for _ in range(3):
        expected = [listed(batch) for batch in plain]
        assert [listed(other.gather(index)) for index in other.indices] == expected
    assert len(other.indices) == len(plain) == len(expected)


@pytest.mark.parametrize("name", LOADERS)
def test_a_loop_over_indices_stops_and_goes_on_as_one_over_batches(device, name):
    """Saved in the one, continued in the other, in both directions."""
    whole = LOADERS[name](mg.Generator(5))
    expected = [listed(b) for _ in range(3) for b in whole]
    for first in (lambda loader: loader, lambda loader: loader.indices):
        loader, got = LOADERS[name](mg.Generator(5)), []
        for batch in first(loader):
            got.append(listed(loader.gather(batch) if isinstance(batch, mg.Tensor) else batch))
            if len(got) == 2:
                state = loader.state_dict()
                break
        for way in (lambda loader: loader, lambda loader: loader.indices):
            other, rest = LOADERS[name](mg.Generator(9)), list(got)
            other.load_state_dict(state)
            for _ in range(3):
                for b in way(other):
                    rest.append(listed(other.gather(b) if isinstance(b, mg.Tensor) else b))
            assert rest == expected


def test_an_epoch_of_indices_is_one_upload_and_a_batch_no_launch(device):
    loader = images(shuffle=True)
    with device.counting() as c:
        for _ in loader.indices:
            pass
    assert len(c.uploads) == 1 and c.launched == 0 and c.host_reads == []


def test_a_captured_step_gathers(device):
    loader = images(shuffle=True, generator=mg.Generator(1))

    def step(index):
        x, y = loader.gather(index)
        return x.sum(), y

    run = mg.graph.capture(step)
    found, expected = [], []
    other = images(shuffle=True, generator=mg.Generator(1))
    for _ in range(3):
        expected += [[float(x.sum()), y.tolist()] for x, y in other]
        for index in loader.indices:
            total, y = run(index)
            found.append([float(total), y.tolist()])
    assert found == expected and run.graphs == 1 and run.why == ""


def test_there_are_none_where_batches_are_made_on_the_host(device):
    x = TensorDataset(mg.zeros(8, 1, 4, 4))
    flip = data.RandomHorizontalFlip(0.5)
    hosts = (
        DataLoader(x, 2),
        DataLoader(x, 2, device="cuda", transform=flip),
        DataLoader([1, 2, 3], 2),
        TextWindows(np.arange(50), 5, device="cuda"),  # its last window is shorter
    )
    for loader in hosts:
        assert loader.indices is None
        with pytest.raises(TypeError, match="gathers no batches on a device; loop over it instead"):
            loader.gather(mg.arange(2))


def test_a_dataset_that_does_not_fit_stays_on_the_host(device, monkeypatch):
    import cupy

    expected = [listed(b) for b in images()]
    needed = 22 * (3 * 4 + 8)
    for free, moved in ((2 * needed, True), (2 * needed - 1, False)):
        monkeypatch.setattr(cupy.cuda.Device, "mem_info", (free, 80 << 30))
        loader = images()
        assert (loader.indices is not None) == moved == mg.backend.on_device(loader.rows.tensors[0].array)
        batches = list(loader)
        assert all(t.device.type == "cuda" for b in batches for t in b)
        assert [listed(b) for b in batches] == expected
