"""Activation functions: f and its derivative side by side, one text each.

Without a flag y = f(x); with `backward` y = g f'(x), for the gradient g that arrives. Where f has a corner
the derivative is PyTorch's choice. A nan in x stays one, on both ways.
"""

from kernels.elementwise import Elementwise

# f(x) = x for x > 0, else slope x                                            [Maas, Hannun & Ng 2013]
LEAKY_RELU = Elementwise(
    "leaky_relu",
    "S x, S g",
    "S y",
    scalars="slope",
    flags="backward",
    body="""
    #if backward
    y = T(x) > T(0) ? T(g) : T(g) * slope;
    #else
    y = T(x) > T(0) ? T(x) : T(x) * slope;
    #endif
""",
)

# f(x) = scale x for x > 0, else scale alpha (e^(steep x) - 1)                [Clevert et al. 2016]
#     steep = 1 for ELU and SELU [Klambauer et al. 2017], 1/alpha for CELU [Barron 2017]
ELU = Elementwise(
    "elu",
    "S x, S g",
    "S y",
    scalars="alpha scale steep",
    flags="backward",
    body="""
    T v = x;
    #if backward
    y = v <= T(0) ? T(g) * scale * alpha * steep * exp(steep * v) : T(g) * scale;
    #else
    y = v <= T(0) ? scale * alpha * expm1(steep * v) : scale * v;
    #endif
""",
)

# f(x) = x P(N(0, 1) <= x) = x (1 + erf(x / sqrt 2)) / 2                      [Hendrycks & Gimpel 2016]
# (kernels/fused.py has it after a bias): statements for v, f(v) and f'(v)
GELU_OF = (
    "T below = T(0.5) * (T(1) + erf(v * T(0.70710678118654752)));",
    "v * below",
    "below + v * T(0.39894228040143268) * exp(T(-0.5) * v * v)",
)
GELU = Elementwise(
    "gelu",
    "S x, S g",
    "S y",
    flags="backward",
    body=f"""
    T v = x;
    {GELU_OF[0]}
    #if backward
    y = T(g) * ({GELU_OF[2]});
    #else
    y = {GELU_OF[1]};
    #endif
""",
)

# f(x) = x (1 + tanh u) / 2,  u = sqrt(2/pi) (x + 0.044715 x^3)               [Hendrycks & Gimpel 2016]
GELU_TANH_OF = (
    "T t = tanh(T(0.79788456080286536) * (v + T(0.044715) * v * v * v));",
    "T(0.5) * v * (T(1) + t)",
    "T(0.5) * (T(1) + t)"
    " + T(0.5) * v * (T(1) - t * t) * (T(0.79788456080286536) * (T(1) + T(0.134145) * v * v))",
)
GELU_TANH = Elementwise(
    "gelu_tanh",
    "S x, S g",
    "S y",
    flags="backward",
    body=f"""
    T v = x;
    {GELU_TANH_OF[0]}
    #if backward
    y = T(g) * ({GELU_TANH_OF[2]});
    #else
    y = {GELU_TANH_OF[1]};
    #endif
""",
)

# f(x) = x s,  s = 1 / (1 + e^-x);  f' = s (1 + x (1 - s))     [Elfwing et al. 2018; Ramachandran et al. 2017]
SILU = Elementwise(
    "silu",
    "S x, S g",
    "S y",
    flags="backward",
    body="""
    T v = x;
    T s = T(1) / (T(1) + exp(-v));
    #if backward
    y = T(g) * s * (T(1) + v * (T(1) - s));
    #else
    y = v * s;
    #endif
""",
)

# f(x) = log(1 + e^(beta x)) / beta,  and x itself where beta x > threshold   [Dugas et al. 2001]
SOFTPLUS = Elementwise(
    "softplus",
    "S x, S g",
    "S y",
    scalars="beta threshold",
    flags="backward",
    body="""
    T v = x;
    T u = v * beta;
    #if backward
    y = u > threshold ? T(g) : T(g) / (T(1) + exp(-u));
    #else
    y = u > threshold ? v : log1p(exp(u)) / beta;
    #endif
""",
)

# f(x) = -log(1 + e^-x) = min(x, 0) - log(1 + e^-|x|)
LOG_SIGMOID = Elementwise(
    "log_sigmoid",
    "S x, S g",
    "S y",
    flags="backward",
    body="""
    T v = x;
    #if backward
    y = T(g) / (T(1) + exp(v));
    #else
    y = min(v, T(0)) - log1p(exp(-abs(v)));
    #endif
""",
)

# f(x) = x t,  t = tanh(log(1 + e^x));  f' = t + x (1 - t^2) / (1 + e^-x)     [Misra 2020]
MISH = Elementwise(
    "mish",
    "S x, S g",
    "S y",
    flags="backward",
    body="""
    T v = x;
    T t = tanh(max(v, T(0)) + log1p(exp(-abs(v))));
    #if backward
    y = T(g) * (t + v * (T(1) - t * t) / (T(1) + exp(-v)));
    #else
    y = v * t;
    #endif
""",
)

# f(x) = x / (1 + |x|)                                                        [Bergstra et al. 2009]
SOFTSIGN = Elementwise(
    "softsign",
    "S x, S g",
    "S y",
    flags="backward",
    body="""
    T v = x;
    T d = T(1) + abs(v);
    #if backward
    y = T(g) / (d * d);
    #else
    y = v / d;
    #endif
""",
)

# f(x) = x min(max(x + 3, 0), 6) / 6                                          [Howard et al. 2019]
HARDSWISH = Elementwise(
    "hardswish",
    "S x, S g",
    "S y",
    flags="backward",
    body="""
    T v = x;
    #if backward
    y = v <= T(-3) ? T(0) : (v >= T(3) ? T(g) : T(g) * (v / T(3) + T(0.5)));
    #else
    y = v * min(max(v + T(3), T(0)), T(6)) / T(6);
    #endif
""",
)

# f(x) = min(max(slope x + shift, low), high): hardtanh (slope 1, shift 0), hardsigmoid (1/6, 1/2, 0, 1)
CLIPPED_LINE = Elementwise(
    "clipped_line",
    "S x, S g",
    "S y",
    scalars="slope shift low high",
    flags="backward",
    body="""
    T u = T(x) * slope + shift;
    #if backward
    y = u <= low || u >= high ? T(0) : T(g) * slope;
    #else
    y = min(max(u, low), high);
    #endif
""",
)

# f(x) = x outside [low, high], else value: threshold (low = -inf), hardshrink (-lambd, lambd)
# with `soft`, f(x) = x - high above, x - low below: softshrink
OUTSIDE = Elementwise(
    "outside",
    "S x, S g",
    "S y",
    scalars="low high value",
    flags="soft backward",
    body="""
    T v = x;
    #if backward
    y = v >= low && v <= high ? T(0) : T(g);
    #elif soft
    y = v > high ? v - high : (v < low ? v - low : v * T(0));
    #else
    y = v >= low && v <= high ? value : v;
    #endif
""",
)

# f(x, t) = -(t log x + (1 - t) log(1 - x)), the logarithms cut at -100: finite where x is 0 or 1
BCE = Elementwise(
    "bce",
    "S x, S t, S g",
    "S y",
    flags="backward",
    body="""
    T v = x;
    #if backward
    y = T(g) * (v - T(t)) / max((T(1) - v) * v, T(1e-12));
    #else
    y = (T(t) - T(1)) * max(log1p(-v), T(-100)) - T(t) * max(log(v), T(-100));
    #endif
""",
)
