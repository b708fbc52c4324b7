"""Elementary functions and their derivatives where NumPy and CuPy would need several passes, one text each.

With `backward` y = g f'(x), written in f's own value where that is what a backward pass has at hand.
"""

from kernels.elementwise import Elementwise

# x where the mask is not 0, else 0: also where x is inf or nan, which a product with the mask would keep.
# (The mask is bytes: a bool would be tested one by one.)
MASKED = Elementwise("masked", "S x, uint8 mask", "S y", "y = mask != 0 ? x : S(0);")

# g where y > 0 or nan, else 0: the gradient of y = max(x, 0)
RELU_BACKWARD = Elementwise("relu_backward", "S g, S y", "S gx", "gx = T(y) <= T(0) ? T(0) : T(g);")

# f(x) = 1 / (1 + e^-x),  f' = f (1 - f)
SIGMOID = Elementwise("sigmoid", "S x", "S y", "y = T(1) / (T(1) + exp(-T(x)));")
SIGMOID_BACKWARD = Elementwise("sigmoid_backward", "S g, S y", "S gx", "gx = T(g) * ((T(1) - T(y)) * T(y));")

# f(x) = tanh x,  f' = 1 - f^2
TANH_BACKWARD = Elementwise("tanh_backward", "S g, S y", "S gx", "gx = T(g) * (T(1) - T(y) * T(y));")

# f(x) = 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x
ERF = Elementwise("erf", "S x", "S y", "y = erf(T(x));")

# f(x) = 1 - erf(x), accurate where that difference is small
ERFC = Elementwise("erfc", "S x", "S y", "y = erfc(T(x));")

# x with erf(x) = y: an estimate from log(1 - y^2) [Winitzki 2008], good to 0.2 %, and three of Halley's steps
#     z <- z - u / (1 + z u),  u = (erf(z) - |y|) sqrt(pi)/2 e^(z^2),
# the difference taken from erfc and 1 - |y|, which is exact, where erf is near 1.
ERFINV = Elementwise(
    "erfinv",
    "S y",
    "S x",
    """
    T v = fabs(T(y));
    T c = T(1) - v;
    T l = log(c * (T(1) + v));
    T h = T(4.3307467508) + T(0.5) * l;                            // 2 / (pi a) + l / 2, with a = 0.147
    T z = sqrt(sqrt(h * h - l / T(0.147)) - h);
    T u = (v < T(0.5) ? erf(z) - v : c - erfc(z)) * T(0.88622692545275801) * exp(z * z);
    z = z - u / (T(1) + z * u);
    u = (v < T(0.5) ? erf(z) - v : c - erfc(z)) * T(0.88622692545275801) * exp(z * z);
    z = z - u / (T(1) + z * u);
    u = (v < T(0.5) ? erf(z) - v : c - erfc(z)) * T(0.88622692545275801) * exp(z * z);
    z = z - u / (T(1) + z * u);
    x = c == T(0) ? T(y) / c : (T(y) < T(0) ? -z : z);
    """,
)
