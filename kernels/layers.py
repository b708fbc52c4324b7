"""The layers' texts: what a layer computes beyond its matrix product, fused into one pass over memory.

A text is followed by the one of its gradient: `g` is the gradient with respect to the output, `gx` with
respect to the input x.
"""

from kernels.elementwise import Elementwise
from kernels.rows import Rows

# y = max(x + b, 0), the bias b broadcast over the rows of x
BIAS_RELU = Elementwise("bias_relu", "S x, S b", "S y", "y = max(T(x) + T(b), T(0));")

# gz = g but where y <= 0 (at nan the gradient passes);  gb = the sum of gz over the rows
BIAS_RELU_BACKWARD = Rows(
    "bias_relu_backward",
    "S g, S y",
    "S gz, col S gb",
    axis=0,
    body="""
    T d = T(y) <= T(0) ? T(0) : T(g);
    gz = d;
    gb = sum(d);
""",
)

# gb = the sum of g over the rows
BIAS_GRAD = Rows("bias_grad", "S g", "col S gb", "gb = sum(T(g));", axis=0)

# y = 1 in the column that index names, else 0
ONE_HOT = Rows("one_hot", "row I index", "S y", "y = j == index ? T(1) : T(0);")

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
    T scale = T(1) / sum(e);                       // one division a row
    y = e * scale;
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

# loss = w (lse - x[target]),  lse = log sum e^x, for each row; w = weight[target] or 1
#     smoothing: (1 - s) w (lse - x[target]) + s mean(weight (lse - x))       [Szegedy et al. 2016, sec. 7]
#     bias: x + bias stands for x
# A row whose target is negative has loss 0. With `share` also w, what the row counts for in a mean.
CROSS_ENTROPY = Rows(
    "cross_entropy",
    "S x, row I target, col T bias, col T weight",
    "row T loss, row T lse, row T share",
    scalars="smoothing one_minus_smoothing",
    flags="smoothing bias weighted share",
    body="""
    #if bias
    T v = T(x) + bias;
    #else
    T v = T(x);
    #endif
    T m = max(v);
    T picked = sum(j == target ? v : T(0));        // x[target]
    T z = m + log(sum(exp(v - m)));
    #if weighted
    T w = sum(j == target ? weight : T(0));
    T nll = w * (z - picked);
    #else
    T w = T(1);
    T nll = z - picked;
    #endif
    #if smoothing
    #if weighted
    T uniform = sum(weight * (z - v)) / T(n);
    #else
    T uniform = z - sum(v) / T(n);
    #endif
    nll = one_minus_smoothing * nll + smoothing * uniform;
    #endif
    lse = z;
    loss = target < 0 ? T(0) : nll;
    #if share
    share = target < 0 ? T(0) : w;
    #endif
""",
)

# y = sum loss, for the losses as one row;  with `mean` y = sum loss / total,  total = sum share
TOTAL_LOSS = Rows(
    "total_loss",
    "T loss, T share",
    "row L y, row T total",
    flags="mean",
    body="""
    T s = sum(loss);
    #if mean
    T t = sum(share);
    y = s / t;
    total = t;
    #else
    y = s;
    #endif
""",
)

# gx = (w softmax(x) - w onehot(target)) scale, with `scale` the gradient of each row's loss
#     smoothing: the target is (1 - s) w onehot + s weight / n, and softmax(x) is multiplied with its sum
#     shared: scale = g[0], one gradient for all rows;  mean: scale = g[0] / total[0]
CROSS_ENTROPY_BACKWARD = Rows(
    "cross_entropy_backward",
    "S x, row I target, row T lse, row T scale, col T bias, col T weight, raw L g, raw T total",
    "S gx",
    scalars="smoothing one_minus_smoothing",
    flags="smoothing bias weighted shared mean",
    body="""
    #if bias
    T v = T(x) + bias;
    #else
    T v = T(x);
    #endif
    T p = exp(v - lse);
    #if weighted
    T w = sum(j == target ? weight : T(0));
    #else
    T w = T(1);
    #endif
    T wanted = j == target ? w : T(0);
    #if smoothing
    #if weighted
    p = p * (one_minus_smoothing * w + smoothing * sum(weight) / T(n));
    wanted = one_minus_smoothing * wanted + smoothing * weight / T(n);
    #else
    wanted = one_minus_smoothing * wanted + smoothing / T(n);
    #endif
    #elif weighted
    p = p * w;
    #endif
    #if mean
    T by = T(g[0]) / total[0];
    #elif shared
    T by = T(g[0]);
    #else
    T by = scale;
    #endif
    gx = target < 0 ? T(0) : (p - wanted) * by;
""",
)
