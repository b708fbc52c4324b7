"""The operations: forward on arrays, and right below it the vjp, on Tensors. Nothing here knows argument forms,
aliases or type promotion: operands have one dtype, dims are non-negative tuples. Those are the public face's business.
"""

from .arithmetic import add, div, mul, neg, sub
from .cast import cast, clone, move
from .power import power
from .products import linear_product, matmul
from .select import clamp, clamp_max, clamp_min, fmax, fmin, masked, maximum, minimum, relu, select
from .shape import matrix_transpose, permute, reshape
from .sums import expand, mean, spread, sum, sum_to
from .unary import (
    abs,
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atanh,
    ceil,
    cos,
    cosh,
    exp,
    exp2,
    expm1,
    floor,
    frac,
    log,
    log1p,
    log2,
    log10,
    reciprocal,
    round,
    rsqrt,
    sigmoid,
    sign,
    sin,
    sinh,
    sqrt,
    square,
    tan,
    tanh,
    trunc,
)
