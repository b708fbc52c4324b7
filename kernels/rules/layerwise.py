"""A step size for every layer: LARS; Adafactor, whose second moment is a row times a column; LAMB.

These rules need norms per tensor, over one buffer that holds many tensors. Every tensor fills whole chunks
of 1,024 elements (minigrad/arena.py), so the buffer is a matrix of chunks, and the norms take two texts:

    ..._norms   for each chunk: its sums of squares                          rows of 1,024 elements
    ..._trust   for each tensor: the sums of its chunks, in double, and what follows from them

The update goes through the chunks again, and `seg` says which tensor's number is theirs. In the second text
the row of a tensor is as long as the longest tensor has chunks; `used` says which of them are its own, from
`first` on (minigrad/optim/segments.py). No atomics and one order of summation: the same bits each time.
"""

from kernels.elementwise import Elementwise
from kernels.rows import Rows

# ww = sum p^2, dd = sum d^2 of a chunk, d the gradient                                   [You et al. 2017]
#     decay_in_norm: d = g + weight_decay p                                                         (optax)
LARS_NORMS = Rows(
    "lars_norms",
    "S g, S p",
    "row T ww, row T dd",
    scalars="weight_decay",
    flags="decay_in_norm",
    body="""
    T x = T(p);
    #if decay_in_norm
    T d = T(g) + weight_decay * x;
    #else
    T d = T(g);
    #endif
    ww = sum(x * x);
    dd = sum(d * d);
""",
)

# trust = trust_coefficient |p| / (|g| + weight_decay |p|);  1 where a norm is zero   [You et al. 2017, eq. 6]
#     exclude_1d: vectors and scalars (`thin`) step as under SGD: trust 1, no decay
LARS_TRUST = Rows(
    "lars_trust",
    "uint8 used, row int32 first, row int32 thin, raw T ww, raw T dd",
    "row T trust, row T decay",
    scalars="trust_coefficient weight_decay",
    flags="decay_in_norm exclude_1d",
    body="""
    int64 k = int64(first) + (used != 0 ? j : int64(0));
    T w = T(sqrt(sum(used != 0 ? float64(ww[k]) : float64(0))));
    T d = T(sqrt(sum(used != 0 ? float64(dd[k]) : float64(0))));
    #if decay_in_norm
    T by = d;
    #else
    T by = d + weight_decay * w;
    #endif
    T ratio = w > T(0) && by > T(0) ? trust_coefficient * w / by : T(1);
    #if exclude_1d
    trust = thin != 0 ? T(1) : ratio;
    decay = thin != 0 ? T(0) : weight_decay;
    #else
    trust = ratio;
    decay = weight_decay;
    #endif
""",
)

# b <- momentum b + lr trust (g + decay p),  p <- p - b                     [You et al. 2017, Algorithm 1]
#     nesterov: p <- p - (lr trust (g + decay p) + momentum b)                                     (optax)
LARS = Rows(
    "lars",
    "S g, row int32 seg, raw T trust, raw T decay",
    "S p, T momentum_buffer",
    scalars="lr momentum",
    flags="momentum nesterov maximize",
    body="""
    T rate = lr * trust[seg];                       // the step size of this layer
    T shrink = decay[seg];
    T x = T(p);
    #if maximize
    T d = rate * (shrink * x - T(g));
    #else
    T d = rate * (shrink * x + T(g));
    #endif
    #if momentum
    T b = momentum * momentum_buffer + d;
    momentum_buffer = b;
    #if nesterov
    d = d + momentum * b;
    #else
    d = b;
    #endif
    #endif
    p = x - d;
""",
)

# row_var <- beta2 row_var + (1 - beta2) mean of g^2 along the row         [Shazeer & Stern 2018, Algorithm 4]
#     `added` to g^2 is the paper's eps1, 0 for PyTorch's form
ADAFACTOR_ROWS = Rows(
    "adafactor_rows",
    "S g",
    "row T row_var",
    scalars="beta2 one_minus_beta2 added",
    body="""
    T d = T(g);
    row_var = beta2 * row_var + one_minus_beta2 * (sum(d * d) / T(n) + added);
""",
)

# col_var the same along the column, after the rows;  scaled = col_var / max(mean of row_var, floor)
_COLUMN = """
    T found = beta2 * col_var + one_minus_beta2 * (s + added);
    T by = max(m, least);
    col_var = found;
    scaled = by > T(0) ? found / by : T(0);
"""

ADAFACTOR_COLUMNS = Rows(
    "adafactor_columns",
    "S g, row T row_var",
    "col T col_var, col T scaled",
    axis=0,
    scalars="beta2 one_minus_beta2 added least",
    body="""
    T d = T(g);
    T s = sum(d * d) / T(rows);
    T m = sum(row_var) / T(rows);
"""
    + _COLUMN,
)

# The same of many matrices at once, each transposed: i is a column of one, of `per` columns each
ADAFACTOR_COLUMNS_OF_MANY = Rows(
    "adafactor_columns_of_many",
    "S g, raw T row_var, raw float64 per",
    "row T col_var, row T scaled",
    scalars="beta2 one_minus_beta2 added least",
    body="""
    T d = T(g);
    int64 which = int64(floor((float64(i) + float64(0.5)) / per[0]));
    T s = sum(d * d) / T(n);
    T m = sum(row_var[which * n + j]) / T(n);
"""
    + _COLUMN,
)

# variance <- beta2 variance + (1 - beta2) g^2 of vectors; `at` says where in the run their gradients are
ADAFACTOR_VECTORS = Elementwise(
    "adafactor_vectors",
    "raw S g, int32 at",
    "T variance",
    scalars="beta2 one_minus_beta2 added",
    body="""
    T d = T(g[at]);
    variance = beta2 * variance + one_minus_beta2 * (d * d + added);
""",
)

# u = g / sqrt(max(v, least^2)),  v = row_var scaled.  Element j of a chunk is number column0 + j of the rows
# from row0 on (of this matrix, with `height` rows of `width` columns); row_at and column_at are the places of
# its first row and of its matrix's columns in `second`. A vector is a matrix of one column, its factor 1.
# The pads of the last chunk repeat its last element.
_UPDATE = """
    int32 k = column0 + min(int32(j), last);
    int32 q = int32(floor((float64(k) + float64(0.5)) / width));
    int32 which = int32(floor((float64(row0 + q) + float64(0.5)) / height));
    T v = second[row_at + q] * second[column_at + k + (which - q) * int32(width)];
    T most = max(v, least * least);
    T u = most > T(0) ? T(g) / sqrt(most) : T(0);
    T x = T(p);
"""
_PLACES = (
    "row int32 row_at, row int32 column_at, row int32 row0, row int32 column0, row int32 last, "
    "row float64 width, row float64 height"
)

# pp = sum p^2, uu = sum u^2 of a chunk
ADAFACTOR_NORMS = Rows(
    "adafactor_norms",
    f"S g, S p, raw T second, {_PLACES}",
    "row T pp, row T uu",
    scalars="least",
    body=_UPDATE
    + """
    pp = sum(x * x);
    uu = sum(u * u);
""",
)

# step = rho max(eps2, rms(p)) / max(1, rms(u) / d)
ADAFACTOR_STEP = Rows(
    "adafactor_step",
    "uint8 used, row int32 first, row float64 size, raw T pp, raw T uu",
    "row T step",
    scalars="rho eps2 d",
    body="""
    int64 k = int64(first) + (used != 0 ? j : int64(0));
    T of_p = T(sqrt(sum(used != 0 ? float64(pp[k]) : float64(0)) / size));
    T of_u = T(sqrt(sum(used != 0 ? float64(uu[k]) : float64(0)) / size));
    step = rho * max(eps2, of_p) / max(T(1), of_u / d);
""",
)

# p <- (1 - lr weight_decay) p - step u
ADAFACTOR = Rows(
    "adafactor",
    f"S g, raw T second, {_PLACES}, row int32 seg, raw T step",
    "S p",
    scalars="least keep",
    body=_UPDATE
    + """
    p = keep * x - step[seg] * u;
""",
)

# m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2                              [You et al. 2019]
LAMB = Elementwise(
    "lamb",
    "S g",
    "T exp_avg, T exp_avg_sq",
    scalars="beta1 one_minus_beta1 beta2 one_minus_beta2",
    flags="maximize",
    body="""
    #if maximize
    T d = -T(g);
    #else
    T d = T(g);
    #endif
    T m = beta1 * exp_avg + one_minus_beta1 * d;
    T v = beta2 * exp_avg_sq + one_minus_beta2 * d * d;
    exp_avg = m;
    exp_avg_sq = v;
""",
)

# r = m^ / (sqrt(v^) + eps) + decay p,  m^ = m / bias1,  v^ = v / bias2_sqrt^2  (or both biases 1)
_DIRECTION = """
    T x = T(p);
    T m = exp_avg / bias1;
    T r = m == T(0) ? T(0) : m / (sqrt(exp_avg_sq) / bias2_sqrt + eps);
    #if exclude_1d
    r = thin != 0 ? r : r + weight_decay * x;
    #else
    r = r + weight_decay * x;
    #endif
"""

# ww = sum p^2, rr = sum r^2 of a chunk
LAMB_NORMS = Rows(
    "lamb_norms",
    "S p, T exp_avg, T exp_avg_sq, row int32 thin",
    "row T ww, row T rr",
    scalars="bias1 bias2_sqrt eps weight_decay",
    flags="exclude_1d",
    body=_DIRECTION
    + """
    ww = sum(x * x);
    rr = sum(r * r);
""",
)

# trust = phi(|p|) / |r|,  phi(z) = z, or within bounds: min(max(z, low), high);  1 where either is zero
LAMB_TRUST = Rows(
    "lamb_trust",
    "uint8 used, row int32 first, row int32 thin, raw T ww, raw T rr",
    "row T trust",
    scalars="low high",
    flags="clamp exclude_1d",
    body="""
    int64 k = int64(first) + (used != 0 ? j : int64(0));
    T w = T(sqrt(sum(used != 0 ? float64(ww[k]) : float64(0))));
    T r = T(sqrt(sum(used != 0 ? float64(rr[k]) : float64(0))));
    #if clamp
    w = min(max(w, low), high);
    #endif
    T ratio = w > T(0) && r > T(0) ? w / r : T(1);
    #if exclude_1d
    trust = thin != 0 ? T(1) : ratio;
    #else
    trust = ratio;
    #endif
""",
)

# p <- p - lr trust r                                                           [You et al. 2019, Algorithm 2]
LAMB_STEP = Rows(
    "lamb_step",
    "T exp_avg, T exp_avg_sq, row int32 seg, row int32 thin, raw T trust",
    "S p",
    scalars="lr bias1 bias2_sqrt eps weight_decay",
    flags="exclude_1d",
    body=_DIRECTION
    + """
    p = x - lr * trust[seg] * r;
""",
)
