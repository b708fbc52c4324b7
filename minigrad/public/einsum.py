"""einsum: sums of products, named by the letters of their dims.

    einsum("bij,bjk->bik", a, b)        a batch of matrix products
    einsum("ii", a)                     the trace
    einsum("...i,...i->...", a, b)      dot products, whatever the leading dims

The operands are contracted two at a time, the pair with the smallest result first. A pair is brought to
matrices (batch, rows, columns) by a permutation and a reshape, and multiplied by matmul: so the gradient is
einsum's again.
"""

from __future__ import annotations

import functools
from itertools import combinations
from math import prod
from typing import Any

import numpy as np

from .. import ops
from ..backend import xp_of
from ..tensor import Tensor
from .products import check_product, permuted, reshaped
from .promote import same_device
from .register import public

Label = str | int  # a letter; or for the dims of an ellipsis -1, -2, ... counted from the right


@public
def einsum(equation: Any, *operands: Any) -> Tensor:
    """The sum of products that the equation names; dims whose letter is not in the output are summed.

    Without "->" the output has the letters that occur once, in alphabetical order, after the dims of an
    ellipsis. The operands may be a list; or in place of letters einsum(a, [0, 1], b, [1, 2], [0, 2]).
    """
    if not isinstance(equation, str):
        equation, operands = _from_lists(equation, *operands)
    elif len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    if not operands:
        raise ValueError("einsum: no operands")
    check_product("einsum", *operands)
    same_device("einsum", *operands)
    inputs, output = _parse(equation, tuple([x.array.ndim for x in operands]))
    terms = [_distinct(x, labels, equation) for x, labels in zip(operands, inputs)]
    sizes = _sizes(terms, equation)
    for label in output:
        if label not in sizes:
            raise ValueError(f"einsum: {equation!r}: output {label!r} does not occur in an input")
    while len(terms) > 1:
        i, j = min(
            combinations(range(len(terms)), 2), key=lambda pair: _result_size(terms, pair, output, sizes)
        )
        right, left = terms.pop(j), terms.pop(i)
        keep = {*output, *[label for _, labels in terms for label in labels]}
        terms.append(_contracted(left, right, keep))
    x, labels = _summed(terms[0], set(output))
    return permuted(x, [labels.index(label) for label in output])


Term = tuple[Tensor, list[Label]]  # a tensor and the labels of its dims, each once


def _from_lists(*given: Any) -> tuple[str, tuple]:
    """einsum(a, [0, 1], b, [1, 2], [0, 2]) as an equation and operands."""

    def letters(dims: Any) -> str:
        return "".join(["..." if d is Ellipsis else chr(d + 65 if d < 26 else d + 71) for d in dims])

    operands, subscripts = given[0 : len(given) // 2 * 2 : 2], given[1::2]
    for dims in (*subscripts, given[-1] if len(given) % 2 else []):
        if not all(d is Ellipsis or (isinstance(d, int) and 0 <= d < 52) for d in dims):
            raise ValueError(f"einsum: dims {list(dims)}; use whole numbers from 0 to 51, and Ellipsis")
    arrow = "->" + letters(given[-1]) if len(given) % 2 else ""
    return ",".join([letters(dims) for dims in subscripts]) + arrow, operands


@functools.lru_cache(1024)
def _parse(equation: str, ndims: tuple[int, ...]) -> tuple[list[list[Label]], list[Label]]:
    """The labels of the dims of each operand, and of the output."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    subscripts = left.split(",")
    if len(subscripts) != len(ndims):
        raise ValueError(f"einsum: {equation!r} names {len(subscripts)} operands, there are {len(ndims)}")
    inputs = [_labels(text, ndim, equation) for text, ndim in zip(subscripts, ndims)]
    dots: list[Label] = sorted({n for labels in inputs for n in labels if isinstance(n, int)})
    if arrow:
        before, ellipsis, after = right.partition("...")
        output = [*_letters(before, equation), *(dots if ellipsis else []), *_letters(after, equation)]
        if len(set(output)) < len(output):
            raise ValueError(f"einsum: {equation!r}: a letter occurs twice in the output")
    else:
        flat = [n for labels in inputs for n in labels if isinstance(n, str)]
        output = [*dots, *sorted([n for n in flat if flat.count(n) == 1])]
    return inputs, output


def _letters(text: str, equation: str) -> list[Label]:
    for letter in text:
        if not (letter.isascii() and letter.isalpha()):
            raise ValueError(
                f"einsum: {equation!r}: {letter!r} is no letter; use a-z, A-Z, one '...' an operand"
            )
    return list(text)


def _labels(text: str, ndim: int, equation: str) -> list[Label]:
    """The labels of one operand's dims."""
    before, ellipsis, after = text.partition("...")
    first, last = _letters(before, equation), _letters(after, equation)
    hidden = ndim - len(first) - len(last)
    if hidden < 0 or (hidden and not ellipsis):
        raise ValueError(f"einsum: {equation!r}: {text!r} does not fit an operand of {ndim} dims")
    return [*first, *range(-hidden, 0), *last]


def _distinct(x: Tensor, labels: list[Label], equation: str) -> Term:
    """The diagonal where a letter occurs twice: each letter once."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            i = labels.index(label)
            j = labels.index(label, i + 1)
            n, m = x.array.shape[i], x.array.shape[j]
            if n != m:
                raise ValueError(
                    f"einsum: {equation!r}: {label!r} stands for sizes {n} and {m} of one operand"
                )
            rest = [d for d in range(x.array.ndim) if d not in (i, j)]
            x = permuted(x, [i, j, *rest])
            x = ops.reshape(x, (n * n, *x.array.shape[2:]))
            x = ops.take(x, Tensor(xp_of(x.array).arange(n) * np.int64(n + 1)), 0)
            labels = [label, *[labels[d] for d in rest]]
    return x, labels


def _sizes(terms: list[Term], equation: str) -> dict[Label, int]:
    """The size that each label stands for; an operand may have 1 instead."""
    sizes: dict[Label, int] = {}
    for x, labels in terms:
        for label, n in zip(labels, x.array.shape):
            if sizes.setdefault(label, n) != n:
                if 1 not in (n, sizes[label]):
                    told = label if isinstance(label, str) else "..."
                    raise ValueError(
                        f"einsum: {equation!r}: {told!r} stands for sizes {sizes[label]} and {n}"
                    )
                sizes[label] = n if sizes[label] == 1 else sizes[label]
    return sizes


def _result_size(
    terms: list[Term], pair: tuple[int, int], output: list[Label], sizes: dict[Label, int]
) -> int:
    """How many elements contracting a pair leaves."""
    others = {label for k, (_, labels) in enumerate(terms) if k not in pair for label in labels}
    both = {*terms[pair[0]][1], *terms[pair[1]][1]}
    return prod([sizes[label] for label in both if label in others or label in output])


def _summed(term: Term, keep: set[Label]) -> Term:
    """The term summed over the labels that nobody needs."""
    x, labels = term
    axes = tuple([k for k, label in enumerate(labels) if label not in keep])
    return (ops.sum(x, axes, False), [label for label in labels if label in keep]) if axes else term


def _contracted(left: Term, right: Term, keep: set[Label]) -> Term:
    """The product of two terms, summed over the labels that both have and nobody else needs."""
    left, right = _broadcast_apart(left, right), _broadcast_apart(right, left)
    left, right = _summed(left, {*keep, *right[1]}), _summed(right, {*keep, *left[1]})
    (a, of_a), (b, of_b) = left, right
    both = [n for n in of_a if n in of_b]
    batch, inner = [n for n in both if n in keep], [n for n in both if n not in keep]
    rows, columns = [n for n in of_a if n not in both], [n for n in of_b if n not in both]
    size = dict(zip(of_a, a.array.shape)) | dict(zip(of_b, b.array.shape))
    lead, n, k, m = ([size[label] for label in group] for group in (batch, rows, inner, columns))
    a = permuted(a, [of_a.index(label) for label in batch + rows + inner])
    b = permuted(b, [of_b.index(label) for label in batch + inner + columns])
    if inner:
        y = ops.matmul(reshaped(a, (*lead, prod(n), prod(k))), reshaped(b, (*lead, prod(k), prod(m))))
    else:
        y = ops.mul(reshaped(a, (*lead, prod(n), 1)), reshaped(b, (*lead, 1, prod(m))))
    return reshaped(y, (*lead, *n, *m)), [*batch, *rows, *columns]


def _broadcast_apart(term: Term, other: Term) -> Term:
    """The term without dims of size 1 that meet a larger size in the other: it is the same all along."""
    x, labels = term
    sizes = dict(zip(other[1], other[0].array.shape))
    drop = [k for k, (label, n) in enumerate(zip(labels, x.array.shape)) if n == 1 != sizes.get(label, 1)]
    if not drop:
        return term
    shape = tuple([n for k, n in enumerate(x.array.shape) if k not in drop])
    return ops.reshape(x, shape), [label for k, label in enumerate(labels) if k not in drop]
