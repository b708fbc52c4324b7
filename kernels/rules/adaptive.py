"""A step size for every parameter: averaged descent, Rprop, Adagrad, Adadelta, RMSprop."""

from kernels.elementwise import Elementwise

# p <- (1 - lambd eta) p - eta d,  ax <- ax + mu (p - ax)                            [Polyak & Juditsky 1992]
#     eta = lr / (1 + lambd lr t)^alpha,  mu = 1 / max(1, t - t0): the mean of the path from step t0 + 2 on,
#     and p itself before it. Both numbers are the host's, carried from step to step.
ASGD = Elementwise(
    "asgd",
    "S g",
    "S p, T ax",
    scalars="eta mu lambd weight_decay",
    flags="maximize",
    body="""
    T x = T(p);
    #if maximize
    T d = weight_decay * x - T(g);
    #else
    T d = weight_decay * x + T(g);                  // L2 penalty
    #endif
    x = x - lambd * eta * x - eta * d;
    ax = mu == T(1) ? x : ax + mu * (x - ax);
    p = x;
""",
)

# p <- p - step_size sign(d),  d = 0 where g changed its sign                      [Riedmiller & Braun 1993]
#     step_size grows by etaplus where g kept its sign, shrinks by etaminus where it changed, and stays in
#     [step_min, step_max]. After a change the paper takes the last step back; here, as in PyTorch, p waits a
#     step, and prev = 0 keeps the next gradient from growing or shrinking it   [Igel & Huesken 2000, iRprop-]
RPROP = Elementwise(
    "rprop",
    "S g",
    "S p, T prev, T step_size",
    scalars="etaminus etaplus step_min step_max",
    flags="maximize",
    body="""
    #if maximize
    T d = -T(g);
    #else
    T d = T(g);
    #endif
    T x = T(p);
    T same = d * prev;                              // > 0 where the sign stayed
    T grow = same > T(0) ? etaplus : same < T(0) ? etaminus : T(1);
    T size = fmin(fmax(step_size * grow, step_min), step_max);      // gcc vectorizes these, not min and max
    d = same < T(0) ? T(0) : d;
    T sign = d > T(0) ? T(1) : d < T(0) ? T(-1) : T(0);
    step_size = size;
    prev = d;
    p = x - sign * size;
""",
)

# p <- p - lr_t d / (sqrt(sum) + eps),  sum <- sum + d^2                      [Duchi, Hazan & Singer 2011]
#     lr_t = lr / (1 + (t - 1) lr_decay);  eps_in_sqrt: sqrt(sum + eps)
ADAGRAD = Elementwise(
    "adagrad",
    "S g",
    "S p, T sum",
    scalars="lr_t eps weight_decay",
    flags="eps_in_sqrt maximize",
    body="""
    T x = T(p);
    #if maximize
    T d = weight_decay * x - T(g);
    #else
    T d = weight_decay * x + T(g);                  // L2 penalty
    #endif
    T total = sum + d * d;
    sum = total;
    #if eps_in_sqrt
    T root = sqrt(total + eps);
    #else
    T root = sqrt(total) + eps;
    #endif
    p = d == T(0) ? x : x - lr_t * (d / root);      // never 0/0, also where eps is too small for T
""",
)

# p <- p - lr delta,  delta = sqrt(acc_delta + eps) / sqrt(square_avg + eps) d             [Zeiler 2012]
#     square_avg <- rho square_avg + (1 - rho) d^2  before,
#     acc_delta  <- rho acc_delta + (1 - rho) delta^2  after: the step divides by nothing that has its units
ADADELTA = Elementwise(
    "adadelta",
    "S g",
    "S p, T square_avg, T acc_delta",
    scalars="lr rho one_minus_rho eps weight_decay",
    flags="maximize",
    body="""
    T x = T(p);
    #if maximize
    T d = weight_decay * x - T(g);
    #else
    T d = weight_decay * x + T(g);                  // L2 penalty
    #endif
    T v = rho * square_avg + one_minus_rho * d * d;
    T u = acc_delta;
    T delta = d == T(0) ? T(0) : sqrt(u + eps) / sqrt(v + eps) * d;
    square_avg = v;
    acc_delta = rho * u + one_minus_rho * delta * delta;
    p = x - lr * delta;
""",
)

# p <- p - lr d / (sqrt(v) + eps),  v <- alpha v + (1 - alpha) d^2       [Tieleman & Hinton 2012, lecture 6.5]
#     eps_in_sqrt: sqrt(v + eps);  centered: v is without the square of the mean gradient   [Graves 2013]
#     momentum: p <- p - lr b,  b <- momentum b + d / (sqrt(v) + eps)
RMSPROP = Elementwise(
    "rmsprop",
    "S g",
    "S p, T square_avg, T momentum_buffer, T grad_avg",
    scalars="lr alpha one_minus_alpha eps weight_decay momentum",
    flags="centered eps_in_sqrt maximize momentum",
    body="""
    T x = T(p);
    #if maximize
    T d = weight_decay * x - T(g);
    #else
    T d = weight_decay * x + T(g);                  // L2 penalty
    #endif
    T v = alpha * square_avg + one_minus_alpha * d * d;
    square_avg = v;
    #if centered
    T mean = alpha * grad_avg + one_minus_alpha * d;
    grad_avg = mean;
    v = max(v - mean * mean, T(0));                 // a variance: rounding may not take it below zero
    #endif
    #if eps_in_sqrt
    T root = sqrt(v + eps);
    #else
    T root = sqrt(v) + eps;
    #endif
    T step = d == T(0) ? T(0) : d / root;           // never 0/0, also where eps is too small for T
    #if momentum
    step = momentum * momentum_buffer + step;
    momentum_buffer = step;
    #endif
    p = x - lr * step;
""",
)
