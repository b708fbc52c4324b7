"""Adam, and what was changed about it."""

from kernels.elementwise import Elementwise

# m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2                    [Kingma & Ba 2015, alg. 1]
# p <- p - step_size m / (sqrt(v / bias2) + eps)
#     step_size = lr / (1 - beta1^t),  bias2 = 1 - beta2^t
#     eps_in_sqrt: sqrt(v / bias2 + eps)
#     decoupled_weight_decay: p shrinks by lr weight_decay, outside of m and v      [Loshchilov & Hutter 2019]
#     fixed_decay: by weight_decay, whatever lr is
#     amsgrad: the largest v so far divides, its bias corrected after               [Reddi, Kale & Kumar 2018]
#     corrected_max: the largest v / bias2 so far
# Where eps stands, and that amsgrad compares v before its bias is corrected, is PyTorch's choice.
ADAM = Elementwise(
    "adam",
    "S g",
    "S p, T exp_avg, T exp_avg_sq, T max_exp_avg_sq",
    scalars="lr beta1 one_minus_beta1 beta2 one_minus_beta2 eps weight_decay step_size bias2",
    flags="amsgrad corrected_max decoupled_weight_decay eps_in_sqrt fixed_decay maximize",
    body="""
    T x = T(p);
    #if maximize
    T d = -T(g);
    #else
    T d = T(g);
    #endif
    #if !decoupled_weight_decay
    d = d + weight_decay * x;                       // L2 penalty
    #elif fixed_decay
    x = x - weight_decay * x;
    #else
    x = x - lr * weight_decay * x;
    #endif
    T m = beta1 * exp_avg + one_minus_beta1 * d;
    T v = beta2 * exp_avg_sq + one_minus_beta2 * d * d;
    exp_avg = m;
    exp_avg_sq = v;
    #if corrected_max
    v = max(v / bias2, max_exp_avg_sq);
    max_exp_avg_sq = v;
    #elif amsgrad
    v = max(v, max_exp_avg_sq);
    max_exp_avg_sq = v;
    v = v / bias2;
    #else
    v = v / bias2;
    #endif
    #if eps_in_sqrt
    T root = sqrt(v + eps);
    #else
    T root = sqrt(v) + eps;
    #endif
    p = m == T(0) ? x : x - step_size * (m / root); // never 0/0, also where eps is too small for T
""",
)

# p <- p - step_size m / u,  u <- max(beta2 u, |g| + eps)                     [Kingma & Ba 2015, algorithm 2]
#     step_size = lr / (1 - beta1^t). The infinity norm needs no bias correction. The paper has no eps, and
#     a first gradient of zero makes it 0/0; eps stands where PyTorch put it.
ADAMAX = Elementwise(
    "adamax",
    "S g",
    "S p, T exp_avg, T exp_inf",
    scalars="beta1 one_minus_beta1 beta2 eps weight_decay step_size",
    flags="maximize",
    body="""
    T x = T(p);
    #if maximize
    T d = weight_decay * x - T(g);
    #else
    T d = weight_decay * x + T(g);                  // L2 penalty
    #endif
    T m = beta1 * exp_avg + one_minus_beta1 * d;
    T u = max(beta2 * exp_inf, abs(d) + eps);
    exp_avg = m;
    exp_inf = u;
    p = m == T(0) ? x : x - step_size * (m / u);    // never 0/0, also where eps is too small for T
""",
)

# p <- p - (m_size m + g_size g) / (sqrt(v / bias2) + eps)                                   [Dozat 2016]
#     m_size = lr mu_{t+1} / (1 - mu_1 ... mu_{t+1}),  g_size = lr (1 - mu_t) / (1 - mu_1 ... mu_t)
#     mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2): the momentum of the next step, taken already
NADAM = Elementwise(
    "nadam",
    "S g",
    "S p, T exp_avg, T exp_avg_sq",
    scalars="lr beta1 one_minus_beta1 beta2 one_minus_beta2 eps weight_decay m_size g_size bias2",
    flags="decoupled_weight_decay maximize",
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
    T step = m_size * m + g_size * d;
    T root = sqrt(v / bias2) + eps;
    p = step == T(0) ? x : x - step / root;         // never 0/0, also where eps is too small for T
""",
)

# p <- p - step_size m / (sqrt(v / bias2) + eps)  where enough gradients were seen,        [Liu et al. 2020]
# p <- p - step_size m                            before:  rectified is 1 or 0
#     step_size = lr r / (1 - beta1^t),  r^2 = (rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho)
#     rho = rho_inf - 2 t beta2^t / (1 - beta2^t),  rho_inf = 2 / (1 - beta2) - 1
RADAM = Elementwise(
    "radam",
    "S g",
    "S p, T exp_avg, T exp_avg_sq",
    scalars="lr beta1 one_minus_beta1 beta2 one_minus_beta2 eps weight_decay step_size bias2 rectified",
    flags="decoupled_weight_decay maximize",
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
    T root = rectified > T(0) ? sqrt(v / bias2) + eps : T(1);
    p = m == T(0) ? x : x - step_size * (m / root); // never 0/0, also where eps is too small for T
""",
)
