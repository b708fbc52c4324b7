"""Adam, and what was changed about it."""

from kernels.elementwise import Elementwise

# m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2                    [Kingma & Ba 2015, alg. 1]
# p <- p - step_size m / (sqrt(v) / bias2_sqrt + eps)
#     step_size = lr / (1 - beta1^t),  bias2_sqrt = sqrt(1 - beta2^t)
#     decoupled_weight_decay: p shrinks by lr weight_decay, outside of m and v      [Loshchilov & Hutter 2019]
#     amsgrad: the largest v so far divides                                        [Reddi, Kale & Kumar 2018]
# Where eps stands, and that amsgrad compares v before its bias is corrected, is PyTorch's choice.
ADAM = Elementwise(
    "adam",
    "S g",
    "S p, T exp_avg, T exp_avg_sq, T max_exp_avg_sq",
    scalars="lr beta1 one_minus_beta1 beta2 one_minus_beta2 eps weight_decay step_size bias2_sqrt",
    flags="amsgrad decoupled_weight_decay maximize",
    body="""
    T x = T(p);
    #if maximize
    T d = -T(g);
    #else
    T d = T(g);
    #endif
    #if decoupled_weight_decay
    x = x - lr * weight_decay * x;
    #else
    d = d + weight_decay * x;                       // L2 penalty
    #endif
    T m = beta1 * exp_avg + one_minus_beta1 * d;
    T v = beta2 * exp_avg_sq + one_minus_beta2 * d * d;
    exp_avg = m;
    exp_avg_sq = v;
    #if amsgrad
    v = max(v, max_exp_avg_sq);
    max_exp_avg_sq = v;
    #endif
    T step = m / (sqrt(v) / bias2_sqrt + eps);
    p = m == T(0) ? x : x - step_size * step;       // never 0/0, also for eps = 0
""",
)
