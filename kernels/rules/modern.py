"""What came after Adam: differences of gradients, signs, curvature, a distance, two memories, averages."""

from kernels.elementwise import Elementwise
from kernels.rows import Rows

# n <- beta3 n + (1 - beta3) (g + beta2 (g - g'))^2,  g' the gradient before         [Xie et al. 2022, alg. 1]
# m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) (g - g')
# p <- (p - lr (m^ + beta2 v^) / (sqrt(n^) + eps)) / (1 + lr weight_decay)
#     step_size = lr / (1 - beta1^t),  diff_size = lr beta2 / (1 - beta2^t),  bias3_sqrt = sqrt(1 - beta3^t)
#     no_prox: p shrinks by lr weight_decay before, as AdamW's, instead of by the proximal factor after
# The betas are what is kept, as Adam's; the paper's are one minus these. Its g' at the first step is g.
ADAN = Elementwise(
    "adan",
    "S g",
    "S p, T exp_avg, T exp_avg_sq, T exp_avg_diff, T previous_grad",
    scalars="beta1 one_minus_beta1 beta2 one_minus_beta2 beta3 one_minus_beta3 eps step_size diff_size"
    " bias3_sqrt keep",
    flags="no_prox maximize",
    body="""
    T x = T(p);
    #if maximize
    T d = -T(g);
    #else
    T d = T(g);
    #endif
    T diff = d - previous_grad;
    T ahead = d + beta2 * diff;
    T m = beta1 * exp_avg + one_minus_beta1 * d;
    T v = beta2 * exp_avg_diff + one_minus_beta2 * diff;
    T n2 = beta3 * exp_avg_sq + one_minus_beta3 * ahead * ahead;
    exp_avg = m;
    exp_avg_diff = v;
    exp_avg_sq = n2;
    previous_grad = d;
    T u = step_size * m + diff_size * v;
    T step = u == T(0) ? T(0) : u / (sqrt(n2) / bias3_sqrt + eps);
    #if no_prox
    p = x * keep - step;
    #else
    p = (x - step) * keep;                          // keep = 1 / (1 + lr weight_decay)
    #endif
""",
)

# p <- p - lr (sign(beta1 m + (1 - beta1) g) + weight_decay p)                      [Chen et al. 2023, alg. 2]
# m <- beta2 m + (1 - beta2) g
# sign(0) = 0; a nan comes through.
LION = Elementwise(
    "lion",
    "S g",
    "S p, T exp_avg",
    scalars="lr beta1 one_minus_beta1 beta2 one_minus_beta2 weight_decay",
    flags="maximize",
    body="""
    T x = T(p);
    #if maximize
    T d = -T(g);
    #else
    T d = T(g);
    #endif
    T c = beta1 * exp_avg + one_minus_beta1 * d;
    exp_avg = beta2 * exp_avg + one_minus_beta2 * d;
    T sign = c > T(0) ? T(1) : c < T(0) ? T(-1) : c;
    p = x - lr * (sign + weight_decay * x);
""",
)

# m <- beta1 m + (1 - beta1) g                                                      [Liu et al. 2023, alg. 3]
# p <- p - lr weight_decay p - lr clip((m / bias1) / max(scale h, eps)),  to [-clip_at, clip_at]
#     h the diagonal of the Hessian, averaged;  scale = rho, bias1 = 1 or 1 - beta1^t
#     gauss_newton: over scale h + eps, as the authors' program of Sophia-G;  scale = rho B
SOPHIA = Elementwise(
    "sophia",
    "S g, T hessian",
    "S p, T exp_avg",
    scalars="lr beta1 one_minus_beta1 weight_decay bias1 scale eps clip_at",
    flags="gauss_newton maximize",
    body="""
    T x = T(p);
    #if maximize
    T d = -T(g);
    #else
    T d = T(g);
    #endif
    T m = beta1 * exp_avg + one_minus_beta1 * d;
    exp_avg = m;
    #if gauss_newton
    T by = scale * hessian + eps;
    #else
    T by = max(scale * hessian, eps);
    #endif
    T step = m == T(0) ? T(0) : m / bias1 / by;
    step = min(max(step, -clip_at), clip_at);
    p = x - lr * weight_decay * x - lr * step;
""",
)

# h <- beta2 h + (1 - beta2) a b:  u and H u of Hutchinson's estimate, or twice a gradient of sampled labels
SOPHIA_HESSIAN = Elementwise(
    "sophia_hessian",
    "S a, S b",
    "T hessian",
    "hessian = beta2 * hessian + one_minus_beta2 * T(a) * T(b);",
    scalars="beta2 one_minus_beta2",
)

# Prodigy learns d, an estimate of how far the solution is               [Mishchenko & Defazio 2024, alg. 4]
#     m <- beta1 m + (1 - beta1) d g,  v <- beta2 v + (1 - beta2) d^2 g^2
#     s <- beta3 s + (d / d0) d lr_bias g,  lr_bias = lr times bias correction;  safeguard_warmup: without it
#     dots = sum g (p0 - p),  sums = sum |s|  of each row of the buffer, in double: the terms of dots cancel
#     without decouple an L2 penalty is part of g;  sliced: every slice_p-th element of a tensor is asked,
#     phase[i] + j its place in the tensor, modulo slice_p
PRODIGY_MOMENTS = Rows(
    "prodigy_moments",
    "S g, S p, T p0, raw float64 d, raw int32 phase",
    "T exp_avg, T exp_avg_sq, T s, row float64 dots, row float64 sums",
    scalars="beta1 one_minus_beta1 beta2 one_minus_beta2 beta3 weight_decay d0 lr_bias slice_p",
    flags="decouple safeguard_warmup sliced",
    body="""
    T x = T(p);
    #if decouple
    T e = T(g);
    #else
    T e = T(g) + weight_decay * x;
    #endif
    T by = T(d[0]);
    exp_avg = beta1 * exp_avg + by * one_minus_beta1 * e;
    exp_avg_sq = beta2 * exp_avg_sq + by * by * one_minus_beta2 * e * e;
    #if sliced
    T at = T(phase[i]) + T(j);
    e = at == slice_p * floor(at / slice_p) ? e : T(0);
    #endif
    #if safeguard_warmup
    T next = beta3 * s + by / d0 * by * e;
    #else
    T next = beta3 * s + by / d0 * (by * lr_bias) * e;
    #endif
    s = next;
    dots = sum(float64(e) * float64(p0 - x));
    sums = sum(float64(abs(next)));
""",
)

# d_hat = d_coef (beta3 d_numerator + (d / d0) d lr_bias sum dots) / sum sums
# d <- min(max(d_max, d_hat), growth_rate d);  computed in double, as is what it is given
#     rate, what the step is scaled by, is that of the old d; nothing moves until a gradient was not zero
PRODIGY_ESTIMATE = Rows(
    "prodigy_estimate",
    "T dots, T sums",
    "row T d, row T d_max, row T d_numerator, row T rate",
    scalars="beta3 d0 d_coef growth_rate lr_bias",
    body="""
    T was = d;
    T over = beta3 * d_numerator + was / d0 * (was * lr_bias) * sum(dots);
    T under = sum(sums);
    T hat = under == T(0) ? was : d_coef * over / under;
    T most = max(d_max, hat);
    T grown = was == d0 ? max(was, hat) : was;
    rate = under == T(0) ? T(0) : was * lr_bias;
    d_numerator = over;
    d_max = most;
    d = min(most, grown * growth_rate);
""",
)

# p <- p - rate (weight_decay p + m / (sqrt(v) + d eps)),  d the new one
PRODIGY = Elementwise(
    "prodigy",
    "T exp_avg, T exp_avg_sq, raw float64 d, raw float64 rate",
    "S p",
    scalars="eps weight_decay",
    flags="decouple",
    body="""
    T x = T(p);
    T m = exp_avg;
    T step = m == T(0) ? T(0) : m / (sqrt(exp_avg_sq) + T(d[0]) * eps);
    #if decouple
    step = step + weight_decay * x;
    #endif
    p = x - T(rate[0]) * step;
""",
)

# p <- p - lr ((m1^ + alpha m2) / (sqrt(v^) + eps) + weight_decay p)         [Pagliardini et al. 2024, alg. 1]
#     m1 and v as Adam's;  m2 <- beta3 m2 + (1 - beta3) g  remembers long, and its bias is not corrected
#     bias1 = 1 - beta1^t,  bias2_sqrt = sqrt(1 - beta2^t);  alpha and beta3 are those of step t
ADEMAMIX = Elementwise(
    "ademamix",
    "S g",
    "S p, T exp_avg, T exp_avg_slow, T exp_avg_sq",
    scalars="lr beta1 one_minus_beta1 beta2 one_minus_beta2 beta3 one_minus_beta3 alpha eps weight_decay"
    " bias1 bias2_sqrt",
    flags="maximize",
    body="""
    T x = T(p);
    #if maximize
    T d = -T(g);
    #else
    T d = T(g);
    #endif
    T m1 = beta1 * exp_avg + one_minus_beta1 * d;
    T m2 = beta3 * exp_avg_slow + one_minus_beta3 * d;
    T v = beta2 * exp_avg_sq + one_minus_beta2 * d * d;
    exp_avg = m1;
    exp_avg_slow = m2;
    exp_avg_sq = v;
    T u = m1 / bias1 + alpha * m2;
    T step = u == T(0) ? T(0) : u / (sqrt(v) / bias2_sqrt + eps);
    p = x - lr * (step + weight_decay * x);
""",
)

# y = (1 - beta) z + beta x;  z <- z - lr d;  x <- (1 - c) x + c z              [Defazio et al. 2024, eq. 1-3]
#     d = g + weight_decay y, the gradient taken at y;  p holds y
#     average = c, the share of this z in the average x;  push = lr (1 - beta (1 - c))
# x is not kept: the new y is y + c (z - y) - push d, z that from before.
SGD_SCHEDULE_FREE = Elementwise(
    "sgd_schedule_free",
    "S g",
    "S p, T z",
    scalars="lr average push weight_decay",
    body="""
    T y = T(p);
    T was = z;
    T d = T(g) + weight_decay * y;
    p = y + average * (was - y) - push * d;
    z = was - lr * d;
""",
)

# The same with Adam's direction, d = g / (sqrt(v) / bias2_sqrt + eps) + weight_decay y; x is its momentum
ADAMW_SCHEDULE_FREE = Elementwise(
    "adamw_schedule_free",
    "S g",
    "S p, T z, T exp_avg_sq",
    scalars="lr average push beta2 one_minus_beta2 eps weight_decay bias2_sqrt",
    body="""
    T y = T(p);
    T was = z;
    T d = T(g);
    T v = beta2 * exp_avg_sq + one_minus_beta2 * d * d;
    exp_avg_sq = v;
    T step = d == T(0) ? T(0) : d / (sqrt(v) / bias2_sqrt + eps);
    step = step + weight_decay * y;
    p = y + average * (was - y) - push * step;
    z = was - lr * step;
""",
)

# p <- x = y + away (z - y),  away = 1 - 1 / beta;  y is put aside
SCHEDULE_FREE_EVAL = Elementwise(
    "schedule_free_eval",
    "T z",
    "S p, T y",
    scalars="away",
    body="""
    T here = T(p);
    y = here;
    p = here + away * (z - here);
""",
)

# p <- y: the very one that was put aside if p still is its x, else that of the new x, x + toward (z - x)
SCHEDULE_FREE_TRAIN = Elementwise(
    "schedule_free_train",
    "T z, T y",
    "S p",
    scalars="away toward",
    body="""
    T x = T(p);
    T left = T(S(y + away * (z - y)));
    p = x == left ? y : x + toward * (z - x);
""",
)
