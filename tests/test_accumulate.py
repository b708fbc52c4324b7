"""A batch in pieces has the gradient of the batch: with unequal counts, and a last window that is short."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F
from minigrad.training import accumulate, endless, windows
from models import GPT, GPTConfig


def gradients(model):
    return np.concatenate([p.grad.numpy().ravel() for p in model.parameters()])


def padded(rng, n, counted):
    """n sequences of 6 tokens; `counted` of all targets count, the others are padding (-100)."""
    tokens, targets = rng.integers(0, 11, (n, 6)), rng.integers(0, 11, (n, 6))
    targets.reshape(-1)[rng.permutation(6 * n)[counted:]] = -100
    return mg.tensor(tokens), mg.tensor(targets)


def summed(model):
    def loss(batch):
        return F.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten(), reduction="sum")

    return loss


def counted(batch):
    return (batch[1] != -100).sum()


@pytest.mark.parametrize("counts", [(24, 24, 24), (24, 3, 11), (1, 24, 0), (5,), (0, 0, 7, 24)])
def test_pieces_of_unequal_token_counts_equal_the_batch(counts):
    rng = np.random.default_rng(0)
    mg.manual_seed(0)
    model = GPT(GPTConfig(11, context=6, layers=1, heads=2, width=8))
    pieces = [padded(rng, 4, k) for k in counts]
    x, y = (mg.cat([piece[i] for piece in pieces]) for i in (0, 1))

    whole = F.cross_entropy(model(x).flatten(0, 1), y.flatten())  # the mean over the targets that count
    whole.backward()
    expected = gradients(model)
    model.zero_grad()
    loss = accumulate(pieces, summed(model), counted)
    assert float(loss) == pytest.approx(float(whole.detach()), rel=1e-6)
    assert np.abs(gradients(model) - expected).max() <= 1e-6

    if len(set(counts)) > 1 and 0 not in counts:  # the usual recipe is something else
        model.zero_grad()
        for x, y in pieces:
            (F.cross_entropy(model(x).flatten(0, 1), y.flatten()) / len(pieces)).backward()
        assert np.abs(gradients(model) - expected).max() > 1e-3


def test_a_last_window_that_is_short_weighs_its_targets_as_the_others_do():
    rng = np.random.default_rng(1)
    x, y = mg.tensor(rng.standard_normal((22, 5)).astype("float32")), mg.tensor(rng.integers(0, 3, 22))
    model = nn.Linear(5, 3)
    batches = [(x[k : k + 4], y[k : k + 4]) for k in range(0, 22, 4)]  # 4 4 4 4 4 2
    found = []
    for window in windows(batches, 4):
        model.zero_grad()
        accumulate(
            window,
            lambda b: F.cross_entropy(model(b[0]), b[1], reduction="sum"),
            lambda b: len(b[1]),
        )
        found.append(gradients(model))
    assert len(found) == 2
    for got, rows in zip(found, (slice(0, 16), slice(16, 22)), strict=True):
        model.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        assert np.abs(got - gradients(model)).max() <= 1e-6


def test_a_window_without_a_single_target_has_no_gradient():
    model = nn.Linear(2, 3)
    batch = (mg.ones(4, 2), mg.full((4,), -100))
    loss = accumulate([batch], lambda b: F.cross_entropy(model(b[0]), b[1], reduction="sum"), counted)
    assert float(loss) == 0 and not gradients(model).any()


def test_windows_end_with_the_epoch_and_epochs_follow_each_other():
    assert list(windows(iter("abcde"), 2)) == [["a", "b"], ["c", "d"], ["e"]]
    stream = endless([1, 2, 3], 2)
    assert [next(stream) for _ in range(5)] == [[1, 2], [3], [1, 2], [3], [1, 2]]
    with pytest.raises(ValueError, match="endless: list gives no batches"):
        next(endless([]))
    with pytest.raises(ValueError, match="size is 0"):
        next(windows([1], 0))
    with pytest.raises(ValueError, match="an empty window"):
        accumulate([], len, len)
