"""Shapes: views where the layout allows, their gradients the inverse view."""

from __future__ import annotations

from ..autograd import op


@op(view=True, aux=True)
def reshape(x, shape):
    """x with another shape, same elements in C order; a view where the layout allows."""
    return x.reshape(shape), x.shape


reshape.vjp(x=lambda g, aux: reshape(g, aux))


@op(view=True)
def permute(x, axes):
    """y[i_axes[0], i_axes[1], ...] = x[i_0, i_1, ...]: the axes of y are x's, in the order given. A view."""
    return x.transpose(axes)


permute.vjp(x=lambda g, axes: permute(g, tuple(sorted(range(len(axes)), key=axes.__getitem__))))


@op(view=True)
def matrix_transpose(x):
    """The last two axes exchanged. A view."""
    return x.mT


matrix_transpose.vjp(x=lambda g: matrix_transpose(g))
