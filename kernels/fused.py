"""What a transformer's layers compute between their products: bias and GELU, bias and residual, dropout and
residual, each in one pass over memory."""

from kernels.dropout import PHILOX
from kernels.elementwise import Elementwise
from kernels.rows import Rows

# v = x + b;  y = gelu(v) as in kernels/activations.py, with `tanh` the approximation
BIAS_GELU = Elementwise(
    "bias_gelu",
    "S x, S b",
    "S y",
    flags="tanh",
    body="""
    T v = T(x) + T(b);
    #if tanh
    y = T(0.5) * v * (T(1) + tanh(T(0.79788456080286536) * (v + T(0.044715) * v * v * v)));
    #else
    y = v * (T(0.5) * (T(1) + erf(v * T(0.70710678118654752))));
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
    body="""
    T v = T(x) + T(b);
    #if tanh
    T t = tanh(T(0.79788456080286536) * (v + T(0.044715) * v * v * v));
    T du = T(0.79788456080286536) * (T(1) + T(0.134145) * v * v);
    T d = T(g) * (T(0.5) * (T(1) + t) + T(0.5) * v * (T(1) - t * t) * du);
    #else
    T below = T(0.5) * (T(1) + erf(v * T(0.70710678118654752)));
    T d = T(g) * (below + v * T(0.39894228040143268) * exp(T(-0.5) * v * v));
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
