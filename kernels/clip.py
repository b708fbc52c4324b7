"""Clipping gradients: their norm without overflow, and the scaling by it, all on the device.

Squares of numbers beyond 1e19 overflow in float32. So every row of gradients is divided by its largest entry
before it is squared, and the rows by the largest of all: the norm is finite whenever float32 can hold it.
"""

from kernels.elementwise import Elementwise
from kernels.rows import Rows

# peak = max |g|,  powers = sum (|g| / peak)^p, for each row;  p = 2 unless `power`
# (Nothing is divided by less than 1e-30: zeros give 0, and what is smaller loses no digits.)
ROW_NORMS = Rows(
    "row_norms",
    "S g",
    "row T peak, row T powers",
    scalars="p",
    flags="power",
    body="""
    T m = max(abs(T(g)));
    T by = T(1) / max(m, T(1e-30));
    T q = T(g) * by;
    #if power
    powers = sum(pow(abs(q), p));
    #else
    powers = sum(q * q);
    #endif
    peak = m;
""",
)

# norm = M (sum powers (peak / M)^p)^(1/p),  M = max peak, for all rows as one; inf and nan come through
TOTAL_NORM = Rows(
    "total_norm",
    "T peak, T powers",
    "row T norm",
    scalars="p one_over_p",
    flags="power largest",
    body="""
    T m = max(peak);
    #if largest
    norm = m;
    #else
    T most = max(m, T(1e-30));
    T q = max(peak, T(1e-30)) / most;
    #if power
    T root = pow(sum(powers * pow(q, p)), one_over_p);
    #else
    T root = sqrt(sum(powers * q * q));
    #endif
    norm = isfinite(m) ? most * root : m;
    #endif
""",
)

# g <- g min(1, max_norm / (norm + 1e-6)); a norm that is not finite leaves g as it is
CLIP_NORM = Elementwise(
    "clip_norm",
    "S g, raw T norm",
    "S clipped",
    scalars="max_norm",
    body="""
    T by = max_norm / (norm[0] + T(1e-6));
    clipped = by < T(1) && isfinite(norm[0]) ? T(g) * by : T(g);
""",
)

# g <- min(max(g, -bound), bound)
CLIP_VALUE = Elementwise(
    "clip_value", "S g", "S clipped", scalars="bound", body="clipped = min(max(T(g), -bound), bound);"
)

# g <- g min(1, clip max(|p|, eps) / |g|), norms of each row; a row whose norm is not finite stays as it is
# [Brock, De, Smith & Simonyan 2021, eq. 3]
CLIP_ADAPTIVE = Rows(
    "clip_adaptive",
    "S g, S p",
    "S clipped",
    scalars="clip eps",
    body="""
    T most_g = max(abs(T(g)));
    T most_p = max(abs(T(p)));
    T a = T(g) * (T(1) / max(most_g, T(1e-30)));
    T b = T(p) * (T(1) / max(most_p, T(1e-30)));
    T norm_g = most_g * sqrt(sum(a * a));
    T norm_p = most_p * sqrt(sum(b * b));
    T limit = clip * max(norm_p, eps);
    T by = limit / max(norm_g, T(1e-30));
    clipped = norm_g > limit && isfinite(norm_g) ? T(g) * by : T(g);
""",
)
