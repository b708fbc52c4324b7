"""Embeddings: the module against torch, the row that is not trained, determinism, errors."""

import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F


def test_the_padding_row_begins_as_zero_and_gets_no_gradient():
    table = nn.Embedding(5, 3, padding_idx=-2)
    assert table.padding_idx == 3 and not table.weight[3].any() and table.weight[2].any()
    table(mg.tensor([3, 3, 1])).sum().backward()
    assert table.weight.grad.tolist() == [[0] * 3, [1] * 3, [0] * 3, [0] * 3, [0] * 3]


def test_a_pretrained_table_is_frozen_unless_said_otherwise():
    rows = mg.arange(6.0).reshape(3, 2)
    assert not nn.Embedding.from_pretrained(rows).weight.requires_grad
    table = nn.Embedding.from_pretrained(rows, freeze=False, padding_idx=0)
    assert table.weight.requires_grad and table.padding_idx == 0
    assert table(mg.tensor([[2, 1]])).tolist() == [[[4, 5], [2, 3]]]


def test_the_same_gradient_to_the_bit_each_time():
    rng = np.random.default_rng(0)
    table = nn.Embedding(7, 4)
    index, g = mg.tensor(rng.integers(0, 7, (50, 3))), mg.tensor(rng.standard_normal((50, 3, 4), np.float32))
    found = []
    for _ in range(3):
        table.weight.grad = None
        table(index).backward(g)
        found.append(table.weight.grad.numpy().copy())
    assert (found[0] == found[1]).all() and (found[1] == found[2]).all()


@pytest.mark.oracle
def test_state_and_printing_are_torchs():
    torch = oracle("torch")
    ours, theirs = nn.Embedding(5, 3, 1), torch.nn.Embedding(5, 3, 1)
    assert repr(ours) == repr(theirs) and list(ours.state_dict()) == list(theirs.state_dict())
    mg.manual_seed(0)
    assert float(nn.Embedding(300, 300).weight.std()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: nn.Embedding(3, 2)(mg.tensor([0, 3])), IndexError, r"row 3 is not in \[0, 3\)"),
        (lambda: nn.Embedding(3, 2)(mg.tensor([-1])), IndexError, "row -1"),
        (lambda: nn.Embedding(3, 2)(mg.tensor([0.0])), TypeError, "cast with .long"),
        (lambda: nn.Embedding(3, 2)([0]), TypeError, "not list"),
        (lambda: nn.Embedding(3, 2, padding_idx=3), ValueError, "padding_idx=3"),
        (lambda: nn.Embedding(3, 2, max_norm=1.0), ValueError, "max_norm=1.0 is not supported"),
        (lambda: nn.Embedding(3, 2, scale_grad_by_freq=True), ValueError, "scale_grad_by_freq"),
        (lambda: F.embedding(mg.tensor([0]), mg.ones(3, 2), sparse=True), ValueError, "sparse=False"),
        (lambda: F.embedding(mg.tensor([0]), mg.ones(3)), ValueError, r"\(rows, features\)"),
        (lambda: nn.Embedding(3, 2, _weight=mg.ones(2, 2)), ValueError, "3 rows"),
        (lambda: nn.Embedding.from_pretrained(mg.ones(3)), ValueError, r"shape \[3\]"),
    ],
)
def test_errors_say_what_and_the_cure(call, error, says):
    with pytest.raises(error, match=says):
        call()
