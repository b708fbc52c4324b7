"""Curvature of a loss as a product with vectors: Hessian, Gauss-Newton, Fisher.

    L(p) = 1/N sum_i l(f_i(p), y_i)         f (N, C) the outputs, J = df/dp, r = dL/df

    Hessian       H v      d<g, v>/dp                          every second derivative
    Gauss-Newton  G v      J^T H_l (J v)                       H_l = d^2 L / df^2; the net counts as linear
    Fisher        F v      J^T E[N r r^T] (J v)                y drawn from the model's own distribution
    sampled       F^ v     J^T (N r r^T) (J v)                 one such draw; unbiased
    empirical              J^T (N r r^T) (J v)                 y the true labels: *not* the Fisher, and its
                                                               difference does not vanish with more data

For the losses here the model's distribution is an exponential family with f its natural parameters, and
Fisher = Gauss-Newton exactly [Martens 2020, section 9]; H_l is known in closed form, with p = softmax(f):

    cross_entropy   (diag p - p p^T) / N        labels ~ softmax(f)
    mse             2 / (N C)                   targets ~ normal(f, C / 2)

Both are means, as F.cross_entropy and F.mse_loss give them. J v comes of two backward passes: J^T u is linear
in u, so its derivative by u, in the direction v, is J v. No matrix is built; `matrix()` builds one for small
problems. Every product may be damped: + damping v.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from .autograd import grad
from .backend import Array, full, xp_of
from .grad_mode import enable_grad, no_grad
from .labels import sample_labels, sample_values
from .ops.layers import softmax
from .tensor import Tensor

LOSSES = ("cross_entropy", "mse")
KINDS = ("exact", "sampled", "empirical")
LIMIT = 1 << 30  # bytes: `matrix` refuses more


class Product:
    """v -> M v + damping v, for a symmetric M of the size of all params together.

    v is a list of Tensors with the parameters' shapes, and so is what comes back. damping >= 0 may be set at
    any time.
    """

    def __init__(self, params: Sequence[Tensor], damping: float = 0.0):
        self.params, self.damping = list(params), damping
        self.products = 0
        if not self.params:
            raise ValueError(f"{type(self).__name__}: an empty list of parameters")
        if not damping >= 0:
            raise ValueError(f"{type(self).__name__}: damping={damping}; it must be at least 0")

    @property
    def size(self) -> int:
        """n, the number of elements of all parameters."""
        return sum(p.array.size for p in self.params)

    def __call__(self, v: Sequence[Tensor]) -> list[Tensor]:
        """M v + damping v."""
        v = list(v)
        if [tuple(d.shape) for d in v] != [tuple(p.shape) for p in self.params]:
            raise ValueError(
                f"{type(self).__name__}: v has shapes {[tuple(d.shape) for d in v]}; those of the parameters "
                f"are {[tuple(p.shape) for p in self.params]}"
            )
        self.products += 1
        found = self.undamped(v)
        with no_grad():
            zero = [d * 0.0 if m is None else m for d, m in zip(v, found, strict=True)]
            return [m + d * self.damping for m, d in zip(zero, v, strict=True)] if self.damping else zero

    def undamped(self, v: list[Tensor]) -> list[Tensor | None]:
        """M v; None where it is zero."""
        raise TypeError(f"{type(self).__name__} defines no product")

    def matrix(self) -> Array:
        """M + damping I itself, (n, n), by n products; an array.

        ValueError, with the bytes it would take, above 1 GiB (n = 11,585 in float64).
        """
        n, kind = self.size, self.params[0].array.dtype
        refuse(type(self).__name__, n, kind.itemsize)
        xp, where = xp_of(self.params[0].array), self.params[0].device
        made = full((n, n), 0, kind, where)
        unit = [full(p.array.shape, 0, p.array.dtype, p.device) for p in self.params]
        k = 0
        for part in unit:
            for j in range(part.size):
                part.reshape(-1)[j] = 1
                column = self([Tensor(u.copy()) for u in unit])
                made[:, k] = xp.concatenate([c.array.reshape(-1) for c in column])
                part.reshape(-1)[j] = 0
                k += 1
        return made


def refuse(name: str, n: int, itemsize: int, limit: int = LIMIT) -> None:
    """ValueError if a matrix of n x n elements takes more than `limit` bytes."""
    if n * n * itemsize > limit:
        raise ValueError(
            f"{name}: the matrix of {n:,} parameters would take {n * n * itemsize:,} bytes, more than "
            f"{limit:,}; use its products, or conjugate gradients on them"
        )


class Hessian(Product):
    """H v of a loss, a Tensor of one element with its graph: the gradient of <gradient, v>.

    H may be indefinite. The graph is kept for as long as this is.
    """

    def __init__(self, loss: Tensor, params: Sequence[Tensor], damping: float = 0.0):
        super().__init__(params, damping)
        if loss.array.size != 1 or not loss.requires_grad:
            raise ValueError(
                f"Hessian: a loss of shape {list(loss.shape)}, requires_grad={loss.requires_grad}; it is one "
                "number that depends on the parameters"
            )
        with enable_grad():
            self.gradient = grad(loss, self.params, create_graph=True, allow_unused=True)

    def undamped(self, v: list[Tensor]) -> list[Tensor | None]:
        pairs = [(g, d) for g, d in zip(self.gradient, v, strict=True) if g is not None and g.requires_grad]
        if not pairs:
            return [None] * len(v)
        firsts, along = zip(*pairs, strict=True)
        return list(grad(list(firsts), self.params, list(along), retain_graph=True, allow_unused=True))


class Jacobian:
    """J = d outputs / d params as two products, from one graph of the outputs, which is kept.

    push(v)   J v       parameters' shapes -> the outputs' shape
    pull(u)   J^T u     the outputs' shape -> parameters' shapes, None where it is zero
    """

    def __init__(self, outputs: Tensor, params: Sequence[Tensor]):
        if not isinstance(outputs, Tensor) or not outputs.requires_grad:
            raise ValueError(
                "Jacobian: the outputs have no graph; compute them from the parameters outside of no_grad"
            )
        self.outputs, self.params = outputs, list(params)
        with enable_grad():
            self.seed = Tensor(xp_of(outputs.array).zeros_like(outputs.array)).requires_grad_()
            pulled = grad(outputs, self.params, self.seed, create_graph=True, allow_unused=True)
        self.pulled = pulled

    def push(self, v: Sequence[Tensor]) -> Tensor:
        """J v, in the outputs' shape."""
        pairs = [(g, d) for g, d in zip(self.pulled, v, strict=True) if g is not None and g.requires_grad]
        found: Tensor | None = None
        if pairs:
            pulled, along = zip(*pairs, strict=True)
            (found,) = grad(list(pulled), self.seed, list(along), retain_graph=True, allow_unused=True)
        return Tensor(xp_of(self.outputs.array).zeros_like(self.outputs.array)) if found is None else found

    def pull(self, u: Tensor) -> list[Tensor | None]:
        """J^T u."""
        return list(grad(self.outputs, self.params, u, retain_graph=True, allow_unused=True))


class GaussNewton(Product):
    """G v = J^T M J v, for outputs (..., C), one row an example, and the mean loss over the rows.

    kind "exact"      M = H_l: the generalised Gauss-Newton matrix, which is the Fisher
         "sampled"    M = N r r^T a row, r the gradient of the mean loss with labels that the model draws
         "empirical"  the same with the true `targets`, as the loss takes them

    loss: "cross_entropy" (outputs are logits) or "mse". G is positive semidefinite. The graph of the outputs
    is kept for as long as this is. ValueError for another loss or kind, or for targets that are missing.
    """

    def __init__(
        self,
        outputs: Tensor,
        params: Sequence[Tensor],
        loss: str = "cross_entropy",
        damping: float = 0.0,
        *,
        kind: str = "exact",
        targets: Tensor | None = None,
    ):
        super().__init__(params, damping)
        known("GaussNewton", loss, kind)
        self.loss, self.kind = loss, kind
        self.jacobian = Jacobian(outputs, params)
        self.rows = outputs.detach().reshape(-1, outputs.shape[-1])  # (N, C)
        self.residual: Tensor | None = None
        if kind != "exact":
            if kind == "sampled":
                targets = sample(self.rows, loss)
            elif targets is None:
                raise ValueError("GaussNewton: kind='empirical' is of the true labels; give targets=")
            self.residual = residual(self.rows, targets, loss)

    def undamped(self, v: list[Tensor]) -> list[Tensor | None]:
        return self.jacobian.pull(self.middle(self.jacobian.push(v)))

    @no_grad()
    def middle(self, u: Tensor) -> Tensor:
        """M u, in the outputs' shape."""
        n, classes = self.rows.shape
        rows = u.reshape(n, classes)
        if self.residual is not None:
            r = self.residual
            found = r * (r * rows).sum(-1, keepdim=True) * float(n)
        else:
            found = loss_hessian(self.rows, rows, self.loss)
        return found.reshape(*u.shape)


class Fisher(GaussNewton):
    """F v: E[score score^T] v, the expectation over labels of the model's own distribution.

    Exact (the same as Gauss-Newton, see the module), or with kind="sampled" of one draw of the labels.
    kind="empirical", of the true labels, is what many programs call the Fisher, and another matrix.
    """


def known(name: str, loss: str, kind: str = "exact") -> None:
    """ValueError for a loss or kind that is none."""
    if loss not in LOSSES:
        raise ValueError(f"{name}: loss={loss!r}; it is one of {', '.join(map(repr, LOSSES))}")
    if kind not in KINDS:
        raise ValueError(f"{name}: kind={kind!r}; it is one of {', '.join(map(repr, KINDS))}")


@no_grad()
def loss_hessian(outputs: Tensor, u: Tensor, loss: str) -> Tensor:
    """H_l u, (N, C): the second derivative of the mean loss by the outputs, row by row."""
    n, classes = outputs.shape
    if loss == "mse":
        return u * (2.0 / (n * classes))
    p = softmax(outputs, -1)
    return p * (u - (p * u).sum(-1, keepdim=True)) * (1.0 / n)


@no_grad()
def loss_hessian_root(outputs: Tensor, k: int, loss: str) -> Tensor:
    """The k-th column of S, where S S^T = H_l, for every row: (N, C), k < C.

    cross_entropy: S = (diag p - p p^T) diag(1/sqrt p) / sqrt N, whose k-th column is
    sqrt(p_k) (e_k - p) / sqrt N. Backward passes of all C columns make up the exact Fisher.
    """
    n, classes = outputs.shape
    xp = xp_of(outputs.array)
    unit = xp.zeros_like(outputs.array)
    unit[:, k] = 1
    if loss == "mse":
        return Tensor(unit) * sqrt(2.0 / (n * classes))
    p = softmax(outputs, -1)
    return (Tensor(unit) - p) * (p[:, k : k + 1].sqrt() * sqrt(1.0 / n))


@no_grad()
def residual(outputs: Tensor, targets: Tensor, loss: str) -> Tensor:
    """r = dL/df, (N, C), of the mean loss; targets are class numbers, or values."""
    n, classes = outputs.shape
    if loss == "mse":
        return (outputs - targets.reshape(n, classes)) * (2.0 / (n * classes))
    xp = xp_of(outputs.array)
    numbers = targets.array.reshape(n, 1)
    hot = numbers == xp.arange(classes)
    return (softmax(outputs, -1) - Tensor(hot.astype(outputs.array.dtype))) * (1.0 / n)


def sample(outputs: Tensor, loss: str) -> Tensor:
    """Labels (N) or values (N, C) drawn from the distribution that the outputs (N, C) stand for."""
    return sample_labels(outputs) if loss == "cross_entropy" else sample_values(outputs)
