"""Gradient descent and its momentum; other geometries; noise; the learning rate that learns."""

from kernels.elementwise import Elementwise
from kernels.normal import normal
from kernels.rows import Rows

# p <- p - lr d                                         [Robbins & Monro 1951]; heavy ball [Polyak 1964]
#     d = b,  b <- momentum b + (1 - dampening) (g + weight_decay p)
#     d = g + momentum b   with nesterov                [Sutskever, Martens, Dahl & Hinton 2013, eq. 3-4]
#     velocity: the learning rate inside,  b <- momentum b + lr g,  p <- p - b:  it differs once lr changes
#     look_ahead: g was taken at p - lr momentum b, where the penalty is taken, too      [Nesterov 1983]
#     decoupled_weight_decay: p shrinks outside of b; the host has multiplied weight_decay by lr, if at all
# PyTorch's form: the velocity has no learning rate in it, and the first b is the gradient itself, so the
# host passes one_minus_dampening = 1 at the first step (b is zero then). The exponential average
# b <- momentum b + (1 - momentum) g is the same text with one_minus_dampening = 1 - momentum at every step.
SGD = Elementwise(
    "sgd",
    "S g",
    "S p, T momentum_buffer",
    scalars="lr momentum one_minus_dampening weight_decay",
    flags="momentum nesterov velocity look_ahead decoupled_weight_decay maximize",
    body="""
    T x = T(p);
    T y = x;                                        // where g was taken
    #if momentum
    #if look_ahead
    #if velocity
    y = x - momentum * momentum_buffer;
    #else
    y = x - lr * momentum * momentum_buffer;
    #endif
    #endif
    #endif
    #if maximize
    T d = -T(g);
    #else
    T d = T(g);
    #endif
    #if decoupled_weight_decay
    x = x - weight_decay * x;
    #else
    d = weight_decay * y + d;                       // L2 penalty
    #endif
    #if velocity
    d = lr * d;
    #endif
    #if momentum
    d = one_minus_dampening * d;
    T b = momentum * momentum_buffer + d;
    momentum_buffer = b;
    #if nesterov
    d = d + momentum * b;                           // look ahead
    #else
    d = b;
    #endif
    #endif
    #if velocity
    p = x - d;
    #else
    p = x - lr * d;
    #endif
""",
)

# p <- p - far b: where Nesterov's gradient is taken
LOOK_AHEAD = Elementwise(
    "look_ahead",
    "T momentum_buffer",
    "S p",
    scalars="far",
    body="p = T(p) - far * momentum_buffer;",
)

# The step is taken in another geometry:  grad psi(p) <- grad psi(p) - lr g        [Nemirovski & Yudin 1983]
#     psi = |p|^2 / 2:  p <- p - lr g
#     entropy, psi = sum p log p:  p <- p exp(-lr g)                             [Kivinen & Warmuth 1997, EGU]
#     hypentropy:  p = w+ - w-,  w+ <- w+ exp(-lr g),  w- <- w- exp(lr g),  w+ w- = beta^2 for ever
#                                              [EGU+-; Ghai, Hazan & Singer 2020: psi' = arcsinh(p / 2 beta)]
MIRROR = Elementwise(
    "mirror_descent",
    "S g",
    "S p",
    scalars="lr beta_square",
    flags="entropy hypentropy burg",
    body="""
    T x = T(p);
    T d = lr * T(g);
    #if entropy
    p = x * exp(-d);
    #elif hypentropy
    T large = (abs(x) + sqrt(x * x + T(4) * beta_square)) * T(0.5);
    T small = beta_square / large;
    T plus = x < T(0) ? small : large;
    T minus = x < T(0) ? large : small;
    p = d == T(0) ? x : plus * exp(-d) - minus * exp(d);
    #elif burg
    T shrink = T(1) + d * x;
    p = x / (shrink < T(0.1) ? T(0.1) : shrink);    // beyond the pole: ten times as large
    #else
    p = x - d;
    #endif
""",
)

# p <- p exp(-lr g) / Z, Z the sum of a row: exponentiated gradient on the simplex    [Kivinen & Warmuth 1997]
# The largest exponent of a weight that is not zero is taken out of all of them: no overflow, and Z > 0.
# Equal gradients move nothing.
EXPONENTIATED = Rows(
    "exponentiated_gradient",
    "S g, S p",
    "S q",
    scalars="lr",
    body="""
    T x = T(p);
    T a = -(lr * T(g));
    T most = max(x > T(0) ? a : T(-3e38));
    T least = min(x > T(0) ? a : T(3e38));
    T e = x > T(0) ? x * exp(a - most) : T(0);
    T total = sum(e);
    q = least == most ? x : e / total;
""",
)

# theta <- grad psi(p) - lr g,  p <- grad psi*(theta),  psi = |p|_r^2 / 2           [Grove et al. 2001]
#     grad psi(p)_i = sign(p_i) |p|_r (|p_i| / |p|_r)^(r - 1);  psi* is the same with 1/r + 1/s = 1
# A tensor is one row. A zero gradient moves nothing.
P_NORM = Rows(
    "p_norm_descent",
    "S g, S p",
    "S q",
    scalars="lr power one_over_power dual one_over_dual",
    body="""
    T x = T(p);
    T a = abs(x);
    T high = max(a);
    T powers = sum(high > T(0) ? pow(a / high, power) : T(0));
    T norm = high * pow(powers, one_over_power);
    T length = norm > T(0) ? norm * pow(a / norm, power - T(1)) : T(0);
    T d = lr * T(g);
    T theta = (x < T(0) ? -length : length) - d;
    T b = abs(theta);
    T top = max(b);
    T others = sum(top > T(0) ? pow(b / top, dual) : T(0));
    T size = top * pow(others, one_over_dual);
    T back = size > T(0) ? size * pow(b / size, dual - T(1)) : T(0);
    T most = max(abs(d));
    q = most == T(0) ? x : (theta < T(0) ? -back : back);
""",
)

# g <- g + N(0, deviation^2)                                                         [Neelakantan et al. 2015]
#     deviation = sqrt(eta / t^gamma); the pads get none
GRADIENT_NOISE = Elementwise(
    "gradient_noise",
    "raw int64 place, raw uint64 draw",
    "S g",
    scalars="deviation",
    body=normal("(i >> 10)", "(i & 1023)")
    + """
    g = real ? T(g) + deviation * z : T(g);
""",
)

# Descent that is kicked where it stands still: if |g| <= threshold and the last kick is long past,
# p <- p + radius U^(1/d) z / |z|, uniform in the ball; else p <- p - lr g     [Jin et al. 2017, Algorithm 4]
#     normal_noise: z, zero in the pads;  perturb_norms: gg = sum g^2 and zz = sum z^2 of a chunk
#     perturb_decide: kick = radius U^(1/d) / |z| or 0;  quiet counts the steps since the last kick
NORMAL_NOISE = Elementwise(
    "normal_noise",
    "raw int64 place, raw uint64 draw",
    "T noise",
    body=normal("(i >> 10)", "(i & 1023)")
    + """
    noise = real ? z : T(0);
""",
)
PERTURB_NORMS = Rows(
    "perturb_norms",
    "S g, T noise",
    "row T gg, row T zz",
    body="""
    T d = T(g);
    gg = sum(d * d);
    zz = sum(noise * noise);
""",
)
PERTURB_DECIDE = Rows(
    "perturb_decide",
    "T gg, T zz, row T since",
    "row T quiet, row T kick",
    scalars="threshold interval reach",
    body="""
    T slope = T(sqrt(sum(float64(gg))));
    T length = T(sqrt(sum(float64(zz))));
    bool go = slope <= threshold && since > interval && length > T(0);
    kick = go ? reach / length : T(0);
    quiet = go ? T(0) : since + T(1);
""",
)
PERTURBED_DESCENT = Elementwise(
    "perturbed_descent",
    "S g, T noise, raw T kick",
    "S p",
    scalars="lr",
    body="""
    T by = kick[0];
    T x = T(p);
    p = by > T(0) ? x + by * noise : x - lr * T(g);
""",
)

# The learning rate descends, too:  rate <- rate + hypergrad_lr d . u,  p <- p - rate u   [Baydin et al. 2018]
#     u: the direction of the step before, -dp/drate; d = g + weight_decay p
HYPER_DOT = Rows(
    "hyper_dot",
    "S g, S p, T direction",
    "row T dots",
    scalars="weight_decay",
    body="dots = sum((T(g) + weight_decay * T(p)) * direction);",
)
HYPER_RATE = Rows(
    "hyper_rate",
    "T dots, row T old",
    "row T rate",
    scalars="hypergrad_lr",
    body="rate = old + hypergrad_lr * T(sum(float64(dots)));",
)
#     u = d, or b of the heavy ball, or d + momentum b with nesterov                         [Algorithms 4, 5]
SGD_HD = Elementwise(
    "sgd_hd",
    "S g, raw T rate",
    "S p, T momentum_buffer, T direction",
    scalars="momentum weight_decay",
    flags="momentum nesterov",
    body="""
    T x = T(p);
    T d = T(g) + weight_decay * x;
    #if momentum
    T b = momentum * momentum_buffer + d;
    momentum_buffer = b;
    #if nesterov
    d = d + momentum * b;
    #else
    d = b;
    #endif
    #endif
    direction = d;
    p = x - rate[0] * d;
""",
)
#     u = m^ / (sqrt(v^) + eps), Adam's                                                          [Algorithm 6]
ADAM_HD = Elementwise(
    "adam_hd",
    "S g, raw T rate",
    "S p, T exp_avg, T exp_avg_sq, T direction",
    scalars="beta1 one_minus_beta1 beta2 one_minus_beta2 eps weight_decay bias1 bias2_sqrt",
    body="""
    T x = T(p);
    T d = T(g) + weight_decay * x;
    T m = beta1 * exp_avg + one_minus_beta1 * d;
    T v = beta2 * exp_avg_sq + one_minus_beta2 * d * d;
    exp_avg = m;
    exp_avg_sq = v;
    T u = m == T(0) ? T(0) : m / bias1 / (sqrt(v) / bias2_sqrt + eps);       // never 0/0
    direction = u;
    p = x - rate[0] * u;
""",
)
