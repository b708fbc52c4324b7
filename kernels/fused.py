"""What a transformer's layers compute between their products: bias and GELU, bias and residual, dropout and
residual, each in one pass over memory."""

from kernels.activations import GELU_OF, GELU_TANH_OF
from kernels.dropout import PHILOX
from kernels.elementwise import Elementwise
from kernels.rows import Rows

# v = x + b;  y = gelu(v), with `tanh` the approximation
BIAS_GELU = Elementwise(
    "bias_gelu",
    "S x, S b",
    "S y",
    flags="tanh",
    body=f"""
    T v = T(x) + T(b);
    #if tanh
    {GELU_TANH_OF[0]}
    y = {GELU_TANH_OF[1]};
    #else
    {GELU_OF[0]}
    y = {GELU_OF[1]};
    #endif
""",
)

# gz = g gelu'(x + b),  gb = the sum of gz over the rows
BIAS_GELU_BACKWARD = Rows(
    "bias_gelu_backward",
    "S g, S x, col S b",
    "S gz, col S gb",
    axis=0,
    flags="tanh",
    body=f"""
    T v = T(x) + T(b);
    #if tanh
    {GELU_TANH_OF[0]}
    T d = T(g) * ({GELU_TANH_OF[2]});
    #else
    {GELU_OF[0]}
    T d = T(g) * ({GELU_OF[2]});
    #endif
    gz = d;
    gb = sum(d);
""",
)

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
