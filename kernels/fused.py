"""The ends of a branch beside a residual stream: bias and residual, dropout and residual, in one pass."""

from kernels.dropout import PHILOX
from kernels.elementwise import Elementwise

# y = x + b + r
BIAS_RESIDUAL = Elementwise("bias_residual", "S x, S b, S r", "S y", "y = T(x) + T(b) + T(r);")

# y = r + scale x with probability 1 - drop, else r: as DROPOUT, on the quarters of an array
DROPOUT_ADD = Elementwise(
    "dropout_add",
    "S x0, S x1, S x2, S x3, S r0, S r1, S r2, S r3, raw uint64 draw",
    "S y0, S y1, S y2, S y3",
    PHILOX
    + "\n".join(
        f"    y{k} = T(r{k}) + (T(c{k} >> 8) * T(5.9604644775390625e-8) < drop ? T(0) : T(x{k}) * scale);"
        for k in range(4)
    ),
    scalars="drop scale",
)
