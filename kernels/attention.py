"""The texts of attention: scores to weights, with scale, mask and softmax in one pass over each row."""

from kernels.rows import Rows

# y = softmax(scale x + bias), with row `at` of the bias; a row that is minus infinity throughout gives 0
# (A mask is a bias of 0 and minus infinity: adding is quicker than choosing, for which the maximum waits.)
ATTENTION_WEIGHTS = Rows(
    "attention_weights",
    "S x, row int64 at, raw S bias",
    "S y",
    scalars="scale",
    flags="biased",
    body="""
    T nothing = log(T(0));                         // minus infinity
    T v = T(x) * scale;
    #if biased
    v = v + T(bias[at * n + j]);
    #endif
    T m = max(v);
    T shift = m == nothing ? T(0) : m;             // where there is nothing to look at
    T e = exp(v - shift);
    T s = sum(e);
    T by = s == T(0) ? T(0) : T(1) / s;            // one division a row
    y = e * by;
""",
)

# gx = scale y (g - sum g y)
ATTENTION_WEIGHTS_BACKWARD = Rows(
    "attention_weights_backward",
    "S g, S y",
    "S gx",
    scalars="scale",
    body="T s = sum(T(g) * T(y)); gx = T(y) * (T(g) - s) * scale;",
)
