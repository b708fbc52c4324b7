"""The layers' texts: what a layer computes beyond its matrix product, fused into one pass over memory.

A text is followed by the one of its gradient: `g` is the gradient with respect to the output, `gx` with
respect to the input x.
"""

from kernels.elementwise import Elementwise
from kernels.rows import Rows

# y = max(x + b, 0), the bias b broadcast over the rows of x
BIAS_RELU = Elementwise("bias_relu", "S x, S b", "S y", "y = max(T(x) + T(b), T(0));")

# gz = g where y > 0;  gb = the sum of gz over the rows
BIAS_RELU_BACKWARD = Rows(
    "bias_relu_backward",
    "S g, S y",
    "S gz, col S gb",
    axis=0,
    body="""
    T d = T(y) > T(0) ? T(g) : T(0);
    gz = d;
    gb = sum(d);
""",
)

# gb = the sum of g over the rows
BIAS_GRAD = Rows("bias_grad", "S g", "col S gb", "gb = sum(T(g));", axis=0)

# y = the sum of x^2 along the row
SUM_SQUARES = Rows("sum_squares", "S x", "row T y", "y = sum(T(x) * T(x));")

# y = e^x / sum e^x; the maximum is taken out first, so that e^x does not overflow
SOFTMAX = Rows(
    "softmax",
    "S x",
    "S y",
    """
    T m = max(T(x));
    T e = exp(T(x) - m);
    T s = sum(e);
    y = e / s;
""",
)

# gx = y (g - sum g y)
SOFTMAX_BACKWARD = Rows(
    "softmax_backward", "S g, S y", "S gx", "T s = sum(T(g) * T(y)); gx = T(y) * (T(g) - s);"
)

# y = x - log sum e^x
LOG_SOFTMAX = Rows(
    "log_softmax",
    "S x",
    "S y",
    """
    T m = max(T(x));
    T z = log(sum(exp(T(x) - m)));
    y = T(x) - m - z;
""",
)

# gx = g - e^y sum g
LOG_SOFTMAX_BACKWARD = Rows(
    "log_softmax_backward", "S g, S y", "S gx", "T s = sum(T(g)); gx = T(g) - exp(T(y)) * s;"
)

# loss = lse - x[target],  lse = log sum e^x, for each row; a row whose target is negative has loss 0
#     smoothing: loss = (1 - s) (lse - x[target]) + s (lse - mean x)          [Szegedy et al. 2016, sec. 7]
#     bias: x + bias stands for x
CROSS_ENTROPY = Rows(
    "cross_entropy",
    "S x, row I target, col T bias",
    "row T loss, row T lse",
    scalars="smoothing one_minus_smoothing",
    flags="smoothing bias",
    body="""
    #if bias
    T v = T(x) + bias;
    #else
    T v = T(x);
    #endif
    T m = max(v);
    T picked = sum(j == target ? v : T(0));        // x[target]
    T z = m + log(sum(exp(v - m)));
    #if smoothing
    T mean = sum(v) / T(n);
    T nll = one_minus_smoothing * (z - picked) + smoothing * (z - mean);
    #else
    T nll = z - picked;
    #endif
    lse = z;
    loss = target < 0 ? T(0) : nll;
""",
)

# gx = (softmax(x) - onehot(target)) scale; `scale` is the loss's gradient, one value a row
CROSS_ENTROPY_BACKWARD = Rows(
    "cross_entropy_backward",
    "S x, row I target, row T lse, row T scale, col T bias",
    "S gx",
    scalars="smoothing one_minus_smoothing",
    flags="smoothing bias",
    body="""
    #if bias
    T v = T(x) + bias;
    #else
    T v = T(x);
    #endif
    T p = exp(v - lse);
    #if smoothing
    T wanted = (j == target ? one_minus_smoothing : T(0)) + smoothing / T(n);
    #else
    T wanted = j == target ? T(1) : T(0);
    #endif
    gx = target < 0 ? T(0) : (p - wanted) * scale;
""",
)
