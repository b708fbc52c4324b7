"""A loop over batches goes on where it was: with a thread, after a stop, in another process."""

import gc
import pickle
import subprocess
import sys
import threading
import time
import traceback
import weakref
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad.data import (
    BatchSampler,
    Compose,
    DataLoader,
    Dataset,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    RandomSampler,
    Subset,
    TensorDataset,
    TextWindows,
    WeightedRandomSampler,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (37, 3, 8, 8)).astype(np.uint8)
AUGMENT = Compose([RandomCrop(8, padding=2), RandomHorizontalFlip(), Normalize(0.5, 0.25)])


def images():
    return TensorDataset(mg.tensor(IMAGES), mg.arange(37))


class Items(Dataset):
    """Not a TensorDataset: item by item. Pauses now and then so that a thread gets ahead and behind."""

    def __init__(self, n=37):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, k):
        if k % 7 == 3:
            time.sleep(0.001)
        return IMAGES[k], k


def own(seed=7):
    return mg.Generator().manual_seed(seed)


LOADERS = {
    "file order": lambda p: DataLoader(images(), 5, prefetch=p),
    "shuffled": lambda p: DataLoader(images(), 5, shuffle=True, generator=own(), prefetch=p),
    "shuffled by the default generator": lambda p: DataLoader(images(), 5, shuffle=True, prefetch=p),
    "transformed": lambda p: DataLoader(images(), 5, transform=AUGMENT, generator=own(), prefetch=p),
    "shuffled and transformed": lambda p: DataLoader(
        images(), 5, shuffle=True, transform=AUGMENT, drop_last=True, prefetch=p
    ),
    "items": lambda p: DataLoader(Items(), 5, shuffle=True, transform=AUGMENT, generator=own(), prefetch=p),
    "a subset": lambda p: DataLoader(
        Subset(images(), range(3, 30)), 4, shuffle=True, generator=own(), prefetch=p
    ),
    "weighted": lambda p: DataLoader(
        images(), 6, sampler=WeightedRandomSampler(np.arange(37), 20, generator=own()), prefetch=p
    ),
    "batch sampler": lambda p: DataLoader(
        images(), batch_sampler=BatchSampler(RandomSampler(range(37), generator=own()), 8, False), prefetch=p
    ),
    "a list as sampler": lambda p: DataLoader(images(), 2, sampler=[8, 1, 5, 5, 30], prefetch=p),
    "text at random": lambda p: TextWindows(IMAGES.ravel()[:500], 9, 4, shuffle=True, generator=own()),
    "text once": lambda p: TextWindows(IMAGES.ravel()[:300], 9, 4),
}


def bits(batch):
    return [(part.numpy().dtype.str, part.shape, part.numpy().tobytes()) for part in batch]


def epochs(loader, n):
    return [[bits(batch) for batch in loader] for _ in range(n)]


@pytest.mark.parametrize("kind", [kind for kind in LOADERS if "text" not in kind])
def test_the_batches_are_the_same_with_and_without_a_thread(kind):
    runs = []
    for prefetch in (0, 1, 3, 100):
        mg.manual_seed(5)
        runs.append(epochs(LOADERS[kind](prefetch), 3))
    assert runs[0] == runs[1] == runs[2] == runs[3]
    assert len(runs[0][0]) == len(LOADERS[kind](0))


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("kind", LOADERS)
def test_a_resumed_loop_gives_the_rest_of_the_epoch_and_the_same_epochs_after_it(kind, prefetch):
    mg.manual_seed(5)
    loader = LOADERS[kind](prefetch)
    epochs(loader, 1)
    for stop in range(1, len(loader) + 1, 2):
        rest, state = [], None
        for k, batch in enumerate(loader, 1):
            if state is not None:
                rest.append(bits(batch))
            if k == stop:
                state = pickle.loads(pickle.dumps(loader.state_dict()))
        after = epochs(loader, 2)

        mg.manual_seed(1234)  # another process would be anywhere
        resumed = LOADERS[kind](prefetch)
        epochs(resumed, 2)
        resumed.load_state_dict(state)
        assert [bits(batch) for batch in resumed] == rest
        assert epochs(resumed, 2) == after


@pytest.mark.parametrize("kind", LOADERS)
def test_a_state_between_epochs_gives_the_epochs_to_come(kind):
    mg.manual_seed(5)
    loader = LOADERS[kind](0)
    fresh = loader.state_dict()
    first = epochs(loader, 1)
    state = loader.state_dict()
    assert state["position"] is None
    second = epochs(loader, 1)
    loader.load_state_dict(state)
    assert epochs(loader, 1) == second
    loader.load_state_dict(fresh)
    assert epochs(loader, 2) == first + second


def test_a_loop_left_by_break_is_continued_by_its_state_and_begun_anew_without():
    loader = DataLoader(images(), 5, shuffle=True, generator=own())
    seen = []
    for _, y in loader:
        seen += y.tolist()
        if len(seen) == 15:
            break
    state = loader.state_dict()
    anew = [k for _, y in loader for k in y.tolist()]
    assert sorted(anew) == list(range(37)) and anew[:15] != seen
    loader.load_state_dict(state)
    assert loader.state_dict()["position"] == 3  # before the loop too
    rest = [k for _, y in loader for k in y.tolist()]
    assert sorted(seen + rest) == list(range(37))


def test_draws_in_between_do_not_change_an_epoch():
    """The model's random numbers come from the same default generator, while a thread makes batches."""
    mg.manual_seed(3)
    loader = DataLoader(images(), 5, shuffle=True, transform=AUGMENT, prefetch=2)
    quiet = [bits(batch) for batch in loader]
    mg.manual_seed(3)
    noisy = []
    for batch in loader:
        noisy.append(bits(batch))
        mg.rand(100)
    assert quiet == noisy


def test_a_changed_batch_size_counts_from_the_next_epoch_on():
    loader = DataLoader(images(), 5, shuffle=True, generator=own())
    next(iter(loader))
    other = DataLoader(images(), 9, shuffle=True, generator=own())
    other.load_state_dict(loader.state_dict())
    assert [len(y) for _, y in other] == [5] * 6 + [2]
    assert [len(y) for _, y in other] == [9] * 4 + [1]


def test_a_state_of_other_data_or_another_loader_is_refused():
    shuffled = DataLoader(images(), 5, shuffle=True)
    with pytest.raises(ValueError, match="the state is of 37 examples, this one has 9"):
        DataLoader(Items(9)).load_state_dict(shuffled.state_dict())
    with pytest.raises(ValueError, match="no state of the sampler; it was saved by a DataLoader with other"):
        shuffled.load_state_dict(DataLoader(images(), 5).state_dict())


RESUME = """
import hashlib, pickle, sys
import numpy as np
import minigrad as mg
from minigrad.data import DataLoader, TensorDataset, RandomCrop
mg.manual_seed(77)
images = np.random.default_rng(0).integers(0, 256, (37, 3, 8, 8)).astype(np.uint8)
data = TensorDataset(mg.tensor(images), mg.arange(37))
loader = DataLoader(data, 5, shuffle=True, transform=RandomCrop(8, padding=2), prefetch=2)
loader.load_state_dict(pickle.loads(bytes.fromhex(sys.stdin.read())))
for batch in [*loader, *loader]:
    print(hashlib.sha256(b"".join(part.numpy().tobytes() for part in batch)).hexdigest())
"""


def test_another_process_goes_on(tmp_path):
    import hashlib

    loader = DataLoader(images(), 5, shuffle=True, transform=RandomCrop(8, padding=2))
    loop = iter(loader)
    next(loop)
    state = pickle.dumps(loader.state_dict()).hex()
    sums = [
        hashlib.sha256(b"".join(part.numpy().tobytes() for part in batch)).hexdigest()
        for batch in [*loop, *loader]
    ]
    command = [sys.executable, "-c", RESUME]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, input=state, cwd=root, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == sums, done.stderr


# ------------------------------------------------------------------------------------------------- the thread


def threads():
    gc.collect()  # a run that another test stopped hangs on its traceback, and its loader's thread on it
    return [thread for thread in threading.enumerate() if thread.name == "minigrad-prefetch"]


class Broken(Items):
    def __getitem__(self, k):
        if k == 12:
            raise OSError(f"item {k} is on a broken disk")
        return super().__getitem__(k)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, StopIteration])
def test_an_error_in_the_thread_arrives_in_its_place_with_its_traceback(error, monkeypatch):
    def get(self, k):
        if k == 12:
            raise error(f"item {k} is on a broken disk")
        return k

    monkeypatch.setattr(Broken, "__getitem__", get)
    seen = []
    arrives = RuntimeError if error is StopIteration else error  # a generator must not end a loop by accident
    with pytest.raises(arrives) as caught:
        for batch in DataLoader(Broken(), 5, prefetch=4):
            seen.append(batch.tolist())
    assert seen == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    frames = "".join(traceback.format_exception(caught.value))
    assert "in get" in frames and "item 12 is on a broken disk" in frames
    assert threads() == []


def test_the_thread_ends_with_the_loop_however_that_is_left():
    for leave in ("exhausted", "break", "error", "closed", "dropped"):
        loop = iter(DataLoader(Items(), 2, prefetch=3))
        if leave == "exhausted":
            assert len(list(loop)) == 19
        elif leave == "break":
            for _ in loop:
                break
            loop.close()
        elif leave == "error":
            with pytest.raises(ZeroDivisionError):
                for _ in loop:
                    1 / 0  # noqa: B018
            loop.close()
        else:
            next(loop)
            assert len(threads()) == 1
            loop.close() if leave == "closed" else None
        del loop
        gc.collect()
        assert threads() == [], leave


def test_leaving_the_loop_waits_for_the_item_that_is_being_made():
    begun = threading.Event()

    class Slow(Items):
        def __getitem__(self, k):
            if k == 1:
                begun.set()
                time.sleep(0.2)
            return k

    loop = iter(DataLoader(Slow(), 1, prefetch=1))
    next(loop)
    assert begun.wait(10)
    loop.close()
    assert threads() == []


def test_a_loop_that_was_never_begun_has_no_thread():
    loop = iter(DataLoader(Items(), 2, prefetch=3))
    assert threads() == []
    del loop


def test_the_thread_is_ahead_by_no_more_than_it_was_told():
    made = []

    class Counted(Items):
        def __getitem__(self, k):
            made.append(k)
            return k

    loop = iter(DataLoader(Counted(), 1, prefetch=3))
    for used in range(1, 6):
        next(loop)
        deadline = time.monotonic() + 5
        while len(made) < used + 3 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.01)  # time in which it could get further
        assert len(made) == used + 3
    loop.close()


def test_the_next_batch_is_made_while_the_loop_uses_the_present_one():
    made = [threading.Event() for _ in range(10)]

    class Noted(Items):
        def __getitem__(self, k):
            made[k].set()
            return k

    for k, _ in enumerate(DataLoader(Noted(10), 1, prefetch=1)):
        assert k == 9 or made[k + 1].wait(10)  # in the loop's body: a loader without a thread would never


def test_batches_are_freed_when_the_loop_has_left_them():
    gc.disable()
    try:
        before = None
        for x, _ in DataLoader(images(), 5, transform=AUGMENT, prefetch=1):
            assert before is None or before() is None
            before = weakref.ref(x.array)
            del x
    finally:
        gc.enable()
