"""A step size for every layer: LARS, LAMB; and Adafactor, whose second moment is a row times a column.

These rules need norms per tensor, over one buffer that holds many tensors. Every tensor fills whole chunks
of 1,024 elements (minigrad/arena.py), so the buffer is a matrix of chunks, and the norms take two texts:

    ..._norms   for each chunk: its sums of squares                          rows of 1,024 elements
    ..._trust   for each tensor: the sums of its chunks, in double, and what follows from them

The update then reads its tensor's number: `seg[i >> 10]` is the tensor of element i. In the second text the
row of a tensor is as long as the longest tensor has chunks; `used` says which of them are its own, from
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
LARS = Elementwise(
    "lars",
    "S g, raw int32 seg, raw T trust, raw T decay",
    "S p, T momentum_buffer",
    scalars="lr momentum",
    flags="momentum nesterov maximize",
    body="""
    int32 s = seg[i >> 10];
    T x = T(p);
    #if maximize
    T d = decay[s] * x - T(g);
    #else
    T d = decay[s] * x + T(g);
    #endif
    d = lr * trust[s] * d;                          // the step size of this layer
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
