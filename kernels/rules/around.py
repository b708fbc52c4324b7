"""What stands around another rule: Lookahead's slow weights, and SAM's step to a worse place."""

from kernels.elementwise import Elementwise
from kernels.rows import Rows

# slow <- slow + alpha (p - slow),  p <- slow                                [Zhang et al. 2019, Algorithm 1]
LOOKAHEAD = Elementwise(
    "lookahead",
    "",
    "S p, T slow",
    scalars="alpha",
    body="""
    T x = slow + alpha * (T(p) - slow);
    slow = x;
    p = x;
""",
)

# peak = max |d|,  powers = sum (d / peak)^2 of a row: the norm neither overflows nor underflows;  d = g
#     adaptive: d = |p| g                                                          [Kwon et al. 2021, eq. 10]
SAM_NORMS = Rows(
    "sam_norms",
    "S g, S p",
    "row T peak, row T powers",
    flags="adaptive",
    body="""
    #if adaptive
    T d = abs(T(p)) * T(g);
    #else
    T d = T(g);
    #endif
    T m = max(abs(d));
    T q = m > T(0) ? d / m : T(0);
    powers = sum(q * q);
    peak = m;
""",
)

# norm = M sqrt(sum powers (peak / M)^2),  M = max peak
SAM_NORM = Rows(
    "sam_norm",
    "T peak, T powers",
    "row T norm",
    body="""
    T m = max(peak);
    T q = m > T(0) ? peak / m : T(0);
    norm = m * sqrt(sum(powers * q * q));
""",
)

# p <- p + rho g / norm                                                      [Foret et al. 2021, eq. 2, p = 2]
#     adaptive: p <- p + rho p^2 g / norm                                          [Kwon et al. 2021, eq. 10]
# A zero gradient, or one that is not finite, leaves p where it is.
SAM = Elementwise(
    "sam",
    "S g, raw T norm",
    "S p",
    scalars="rho",
    flags="adaptive",
    body="""
    T x = T(p);
    T size = norm[0];
    T d = size > T(0) && isfinite(size) ? T(g) / size : T(0);
    #if adaptive
    d = x * x * d;
    #endif
    p = x + rho * d;
""",
)
