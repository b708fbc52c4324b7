"""The texts of normalization: along rows (layer norm, RMS norm), and of channels over a batch (batch norm).

In every text `mean` and `rstd` = 1/sqrt(variance + eps) are of type T: the backward texts take them from the
forward ones. `g` is the gradient with respect to the output y, `gx gw gb` those with respect to input, weight
and bias. Variances are the mean square of what is left after the mean is taken out, so they do not cancel.
"""

from kernels.elementwise import Elementwise
from kernels.rows import Rows

# y = (x - mean) rstd w + b, mean and variance those of the row               [Ba, Kiros & Hinton 2016, eq. 4]
LAYER_NORM = Rows(
    "layer_norm",
    "S x, col S w, col S b",
    "S y, row T mean, row T rstd",
    scalars="eps",
    flags="weighted shifted",
    body="""
    T m = sum(T(x)) / T(n);
    T d = T(x) - m;
    T r = T(1) / sqrt(sum(d * d) / T(n) + eps);
    T v = d * r;
    #if weighted
    v = v * T(w);
    #endif
    #if shifted
    v = v + T(b);
    #endif
    y = v;
    mean = m;
    rstd = r;
""",
)

# total = x + r, and y its layer norm
RESIDUAL_LAYER_NORM = Rows(
    "residual_layer_norm",
    "S x, S r, col S w, col S b",
    "S total, S y, row T mean, row T rstd",
    scalars="eps",
    flags="weighted shifted",
    body="""
    T z = T(x) + T(r);
    T m = sum(z) / T(n);
    T d = z - m;
    T k = T(1) / sqrt(sum(d * d) / T(n) + eps);
    T v = d * k;
    #if weighted
    v = v * T(w);
    #endif
    #if shifted
    v = v + T(b);
    #endif
    total = z;
    y = v;
    mean = m;
    rstd = k;
""",
)

# gx = rstd (d - mean(d) - u mean(d u)),  d = g w,  u = (x - mean) rstd
#     added: r + that, where r is the gradient that x has from elsewhere, as in a residual stream
LAYER_NORM_BACKWARD = Rows(
    "layer_norm_backward",
    "S g, S x, col S w, row T mean, row T rstd, S r",
    "S gx",
    flags="weighted added",
    body="""
    T u = (T(x) - mean) * rstd;
    #if weighted
    T d = T(g) * T(w);
    #else
    T d = T(g);
    #endif
    T a = sum(d) / T(n);
    T c = sum(d * u) / T(n);
    T v = (d - a - u * c) * rstd;
    #if added
    v = T(r) + v;
    #endif
    gx = v;
""",
)

# gw = sum g (x - mean) rstd,  gb = sum g,  over the rows
LAYER_NORM_PARAMETERS = Rows(
    "layer_norm_parameters",
    "S g, S x, row T mean, row T rstd",
    "col S gw, col S gb",
    axis=0,
    body="""
    gw = sum(T(g) * ((T(x) - mean) * rstd));
    gb = sum(T(g));
""",
)

# y = x rstd w,  rstd = 1/sqrt(mean(x^2) + eps)                                 [Zhang & Sennrich 2019, eq. 4]
RMS_NORM = Rows(
    "rms_norm",
    "S x, col S w",
    "S y, row T rstd",
    scalars="eps",
    flags="weighted",
    body="""
    T r = T(1) / sqrt(sum(T(x) * T(x)) / T(n) + eps);
    #if weighted
    y = T(x) * r * T(w);
    #else
    y = T(x) * r;
    #endif
    rstd = r;
""",
)

# gx = rstd (d - u mean(d u)),  d = g w,  u = x rstd;  added: r + that
RMS_NORM_BACKWARD = Rows(
    "rms_norm_backward",
    "S g, S x, col S w, row T rstd, S r",
    "S gx",
    flags="weighted added",
    body="""
    T u = T(x) * rstd;
    #if weighted
    T d = T(g) * T(w);
    #else
    T d = T(g);
    #endif
    T v = (d - u * (sum(d * u) / T(n))) * rstd;
    #if added
    v = T(r) + v;
    #endif
    gx = v;
""",
)

# gw = sum g x rstd, over the rows
RMS_NORM_WEIGHT = Rows(
    "rms_norm_weight", "S g, S x, row T rstd", "col S gw", "gw = sum(T(g) * (T(x) * rstd));", axis=0
)

# Batch norm takes mean and variance of each channel over all else           [Ioffe & Szegedy 2015, alg. 1]
# Arrays whose channels are the last axis in memory are matrices (N, C), and one text does all. Otherwise
# (N, C, L) is a matrix of N C rows: one text makes the parts, which a second one joins for each channel, and
# a third applies.
#     running: the running statistics move by `momentum`, or by 1 / batches (cumulative); the variance in them
#     is the unbiased one
_RUNNING = """
    #if running
    #if cumulative
    T f = T(1) / T(batches[0]);
    #else
    T f = momentum;
    #endif
    running_mean = T(running_mean) + f * (m - T(running_mean));
    running_var = T(running_var) + f * (variance * (total / (total - T(1))) - T(running_var));
    #endif
"""

BATCH_NORM = Rows(
    "batch_norm",
    "S x, col S w, col S b, raw int64 batches",
    "S y, col T mean, col T rstd, col S running_mean, col S running_var",
    axis=0,
    scalars="eps momentum",
    flags="weighted shifted running cumulative",
    body="""
    T total = T(rows);
    T m = sum(T(x)) / total;
    T d = T(x) - m;
    T variance = sum(d * d) / total;
    T r = T(1) / sqrt(variance + eps);
    T v = d * r;
    #if weighted
    v = v * T(w);
    #endif
    #if shifted
    v = v + T(b);
    #endif
    y = v;
    mean = m;
    rstd = r;
"""
    + _RUNNING,
)

# The same, and gw and gb, backward
BATCH_NORM_BACKWARD = Rows(
    "batch_norm_backward",
    "S g, S x, col S w, col T mean, col T rstd",
    "S gx, col S gw, col S gb",
    axis=0,
    flags="weighted",
    body="""
    T u = (T(x) - mean) * rstd;
    T sg = sum(T(g));
    T su = sum(T(g) * u);
    T k = rstd;
    #if weighted
    k = k * T(w);
    #endif
    gx = (T(g) - sg / T(rows) - u * (su / T(rows))) * k;
    gw = su;
    gb = sg;
""",
)

# each row's mean, and the sum of squares of what differs from it
BATCH_PARTS = Rows(
    "batch_parts",
    "S x",
    "row T mean, row T squares",
    body="""
    T m = sum(T(x)) / T(n);
    T d = T(x) - m;
    mean = m;
    squares = sum(d * d);
""",
)

# mean and rstd of each channel, from the means and squares of its N rows of `length` elements
#     sum (x - m)^2 = sum over rows: squares + length (mean - m)^2                [Chan, Golub & LeVeque 1979]
BATCH_JOIN = Rows(
    "batch_join",
    "T part, T squares, raw int64 batches",
    "col T mean, col T rstd, col S running_mean, col S running_var",
    axis=0,
    scalars="eps momentum length",
    flags="running cumulative",
    body="""
    T total = T(rows) * length;
    T m = sum(part) / T(rows);
    T d = part - m;
    T variance = sum(squares + length * d * d) / total;
    mean = m;
    rstd = T(1) / sqrt(variance + eps);
"""
    + _RUNNING,
)

# y = (x - mean) rstd w + b, everything but x one value a channel
BATCH_APPLY = Elementwise(
    "batch_apply",
    "S x, T mean, T rstd, S w, S b",
    "S y",
    flags="weighted shifted",
    body="""
    T v = (T(x) - mean) * rstd;
    #if weighted
    v = v * T(w);
    #endif
    #if shifted
    v = v + T(b);
    #endif
    y = v;
""",
)

# each row's sum g, and sum g (x - mean) for the row's own mean
BATCH_SUMS = Rows(
    "batch_sums",
    "S g, S x, row T mean",
    "row T sum_g, row T sum_gd",
    "sum_g = sum(T(g)); sum_gd = sum(T(g) * (T(x) - mean));",
)

# of each channel: gw = rstd sum g (x - mean),  gb = sum g,  and what the gradient of x is made of
BATCH_JOIN_SUMS = Rows(
    "batch_join_sums",
    "T part, T sum_g, T sum_gd, col T mean, col T rstd, col S w",
    "col S gw, col S gb, col T k, col T a, col T c",
    axis=0,
    scalars="length",
    flags="weighted",
    body="""
    T total = T(rows) * length;
    T sg = sum(sum_g);
    T su = sum(sum_gd + (part - mean) * sum_g) * rstd;
    #if weighted
    k = rstd * T(w);
    #else
    k = rstd;
    #endif
    gw = su;
    gb = sg;
    a = sg / total;
    c = su * rstd / total;
""",
)

# gx = k (g - a - (x - mean) c)
BATCH_APPLY_BACKWARD = Elementwise(
    "batch_apply_backward",
    "S g, S x, T mean, T k, T a, T c",
    "S gx",
    "gx = k * (T(g) - a - (T(x) - mean) * c);",
)

# rstd = 1/sqrt(variance + eps)
RSTD = Elementwise("rstd", "S variance", "T rstd", "rstd = T(1) / sqrt(T(variance) + eps);", scalars="eps")
