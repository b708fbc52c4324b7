"""The texts of attention: scores to weights, with scale, mask and softmax in one pass over each row."""

from kernels.rows import Rows

# y = softmax(scale x + bias) over the keys that a row's query may look at, 0 at the others; a row without any
# is 0.
#     causal: keys up to the row's `query` number
#     kept:   keys j with keep[row `at` of the mask, j]
#     added:  bias is row `at` of it
ATTENTION_WEIGHTS = Rows(
    "attention_weights",
    "S x, row int64 query, row int64 at, raw uint8 keep, raw S bias",
    "S y",
    scalars="scale",
    flags="causal kept added",
    body="""
    T nothing = log(T(0));                         // minus infinity
    T v = T(x) * scale;
    #if added
    v = v + T(bias[at * n + j]);
    #endif
    #if kept
    v = keep[at * n + j] != 0 ? v : nothing;
    #endif
    #if causal
    v = j <= query ? v : nothing;
    #endif
    T m = max(v);
    T shift = m == nothing ? T(0) : m;
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
