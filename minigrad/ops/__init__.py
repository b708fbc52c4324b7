"""The operations: forward on arrays, and right below it the vjp, on Tensors.

Nothing here knows argument forms, aliases or type promotion: operands have one dtype, dims are non-negative
tuples. Those are the public face's business. What only layers need (activations, attention, convolution ...)
is loaded with minigrad.nn, from its own modules.
"""

from .arithmetic import add, div, div_floor, div_trunc, fmod, mul, neg, remainder, sub
from .binary import atan2, copysign, heaviside, hypot, lerp, logaddexp, logaddexp2, xlogy
from .cast import cast, clone, move, stand_in
from .index import embed, extreme_at, getitem, put, setitem, sum_at, take
from .join import cat, stack
from .linalg import cholesky, cofactor, det, eigh, inv, logabsdet, pinv, qr, solve, svd
from .logic import (
    bitwise_and,
    bitwise_left_shift,
    bitwise_not,
    bitwise_or,
    bitwise_right_shift,
    bitwise_xor,
    close,
    eq,
    ge,
    gt,
    isfinite,
    isinf,
    isnan,
    le,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    lt,
    ne,
    signbit,
)
from .order import argsort, middle, put_along, take_along
from .power import power
from .products import linear_product, matmul
from .reduce import (
    all,
    amax,
    amin,
    any,
    argmax,
    argmin,
    count_nonzero,
    euclidean,
    largest,
    logsumexp,
    median,
    nonzeros,
    norm,
    prod,
    root,
    smallest,
    var,
)
from .scan import (
    cumprod,
    cumsum,
    cumulative_max,
    cumulative_min,
    delayed,
    last_equal,
    linear_scan,
    logcumsumexp,
)
from .select import (
    clamp,
    clamp_max,
    clamp_min,
    fmax,
    fmin,
    masked,
    maximum,
    minimum,
    nan_to_num,
    overwrite,
    relu,
    select,
)
from .shape import (
    diagonal,
    flip,
    matrix_transpose,
    on_diagonal,
    overlap_add,
    permute,
    reshape,
    roll,
    tril,
    triu,
    unfold,
)
from .sums import expand, mean, spread, sum, sum_to
from .trigonometry import acos, acosh, asin, asinh, atan, atanh, cos, cosh, sin, sinh, tan
from .unary import (
    abs,
    ceil,
    erf,
    erfc,
    erfinv,
    exp,
    exp2,
    expm1,
    floor,
    frac,
    log,
    log1p,
    log2,
    log10,
    logit,
    reciprocal,
    round,
    round_to,
    rsqrt,
    sigmoid,
    sign,
    sqrt,
    square,
    tanh,
    trunc,
)
