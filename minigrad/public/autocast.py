"""Which functions autocast lets run in a half type, which in float32, and how their arguments are cast.

A half type (float16, bfloat16) is quick where products are, and too coarse where sums, exponentials and
differences of near numbers are. So inside `amp.autocast` each function of a list gets its floating arguments
in the type of its list; what stands in no list takes what comes. The lists are those of PyTorch on CUDA, and
hold on the CPU too:

    HALF        products: of matrices, convolutions, attention, recurrent layers
    FLOAT32     exponentials, logarithms, powers, sums, norms, losses, layer and group norm
    WIDEST      functions of several tensors that must agree: the widest type among them
    REFUSED     probabilities in half precision are 0 or 1 too early: binary_cross_entropy on CUDA

Batch norm and instance norm stand in none: they compute in float32 and return their input's type. float64 is
left alone. The casts happen here, in the public face: operations see one type, as ever. A function of a list
runs with autocast off, and so does every backward pass, whose gradients have the types of the values.

A parameter in an arena is never cast alone: its values in half precision are a view of the arena's shadow
(minigrad/arena.py), which one launch renews after a step; its gradient is float32 again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from .. import ops
from ..backend import dtype, float32, on_device, promote
from ..grad_mode import mode
from ..tensor import Tensor
from .arguments import refusal

HALF = """
    matmul mm bmm mv addmm addmv addr addbmm baddbmm chain_matmul multi_dot einsum __matmul__ __rmatmul__
    linear prelu conv1d conv2d conv_transpose1d conv_transpose2d
    scaled_dot_product_attention packed_attention
    recurrent_layers rnn_tanh_cell rnn_relu_cell lstm_cell gru_cell
"""
FLOAT32 = """
    exp expm1 log log2 log10 log1p pow __pow__ __rpow__ square reciprocal __rtruediv__ rsqrt
    acos asin cosh sinh tan erfinv softplus
    sum prod cumsum cumprod logsumexp softmax log_softmax softmin
    norm vector_norm matrix_norm cdist normalize cosine_similarity pairwise_distance
    layer_norm group_norm rms_norm interpolate
    cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss huber_loss kl_div binary_cross_entropy_with_logits
    poisson_nll_loss gaussian_nll_loss soft_margin_loss multilabel_soft_margin_loss margin_ranking_loss
    hinge_embedding_loss cosine_embedding_loss triplet_margin_loss multi_margin_loss multilabel_margin_loss
    pdist
"""
WIDEST = """
    addcdiv addcmul atan2 bilinear cat stack cross linalg_cross dot inner tensordot index_put scatter_add
    dropout_add
"""
REFUSED = "binary_cross_entropy"

DEFAULTS = {"cuda": "float16", "cpu": "bfloat16"}
KEPT = ("residual",)  # an argument that is added after the product: it keeps its own type

F = TypeVar("F", bound=Callable)


class Casting:
    """What autocast has set for this thread: the half type of each kind of device, and the casts made so far.

    types   {"cuda": float16, "cpu": None}: None where autocast is off
    cast    parameter -> (its version, type, values) of those that no arena holds; lasts for the outermost
            autocast block
    cached  whether to look there
    """

    __slots__ = ("cached", "cast", "types")

    def __init__(self, types: dict[str, dtype | None], cast: dict, cached: bool):
        self.types, self.cast, self.cached = types, cast, cached


def lowered(x: Tensor, to: dtype, casting: Casting) -> Tensor:
    """x in a half type; a parameter's values from where they are kept."""
    if x.arena is not None:
        array, version = x.arena.in_type(x, to.numpy)
        y = ops.stand_in(x, array)
        y.version = version  # of the shadow: a graph that needs old values notices when it was renewed
        return y
    if casting.cached and x.requires_grad and x.node is None:
        found = casting.cast.get(x)
        if found is None or found[:2] != (x.version[0], to):
            found = x.version[0], to, ops.cast(x.detach(), to.numpy).array
            casting.cast[x] = found
        return ops.stand_in(x, found[2])
    return ops.cast(x, to.numpy)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """The Tensors among arguments, those in lists and tuples too."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _with(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """An argument with its Tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    if value.__class__ in (list, tuple):
        return value.__class__([_with(v, change) for v in value])
    return value


def _eligible(x: Tensor, kind: str) -> bool:
    """Whether autocast touches x: a floating tensor, not float64, on a device of this kind."""
    d = x.dtype
    return d.is_floating_point and d.itemsize < 8 and on_device(x.array) == (kind == "cuda")


def _call(policy: str, function: Callable, casting: Casting, args: tuple, kwargs: dict) -> Any:
    """The function on arguments in the type of its list, with autocast off inside."""
    found = list(_tensors((*args, *kwargs.values())))
    kind = "cuda" if found and on_device(found[0].array) else "cpu"
    to = casting.types[kind]
    if to is None:
        return function(*args, **kwargs)
    if policy == "refused" and kind == "cuda":
        raise RuntimeError(
            f"{function.__name__}: unsafe to autocast, since probabilities near 0 and 1 are lost in half "
            "precision; use binary_cross_entropy_with_logits on what the sigmoid takes"
        )
    if policy == "widest":
        kinds = [x.dtype for x in found if x.dtype.is_floating_point]
        to = functools.reduce(promote, kinds) if kinds else to
    elif policy != "half":
        to = float32
    wanted = to

    def change(x: Tensor) -> Tensor:
        if not _eligible(x, kind) or x.array.dtype == wanted.numpy:
            return x
        return lowered(x, wanted, casting) if policy == "half" else ops.cast(x, wanted.numpy)

    mode.casting = None
    try:
        given = {name: v if name in KEPT else _with(v, change) for name, v in kwargs.items()}
        return function(*[_with(v, change) for v in args], **given)
    finally:
        mode.casting = casting


POLICIES = dict.fromkeys(HALF.split(), "half") | dict.fromkeys(FLOAT32.split(), "float32")
POLICIES |= dict.fromkeys(WIDEST.split(), "widest") | {REFUSED: "refused"}


def listed(function: F, name: str | None = None) -> F:
    """The function, which casts its arguments where autocast is on; it must stand in a list."""
    policy = POLICIES[name or function.__name__]
    function.__qualname__ = function.__name__  # in Python's own messages

    @functools.wraps(function)
    def casting(*args: Any, **kwargs: Any) -> Any:
        try:
            if mode.casting is None:
                return function(*args, **kwargs)
            return _call(policy, function, mode.casting, args, kwargs)
        except AttributeError:
            if (error := refusal(function.__name__, function, args, kwargs)) is not None:
                raise error from None
            raise

    casting.policy = policy  # type: ignore[attr-defined]
    return casting  # type: ignore[return-value]


def where_listed(function: F) -> F:
    """The same for a function that may stand in no list: then it is itself."""
    if function.__name__ not in POLICIES or hasattr(function, "policy"):
        return function
    return listed(function)


def without(function: F) -> F:
    """The function with autocast off: in-place operations, which have a type already."""
    if not hasattr(function, "policy"):
        return function
    bare = function.__wrapped__  # type: ignore[attr-defined]

    @functools.wraps(bare)
    def plain(*args: Any, **kwargs: Any) -> Any:
        before, mode.casting = mode.casting, None
        try:
            return bare(*args, **kwargs)
        finally:
            mode.casting = before

    return plain  # type: ignore[return-value]
