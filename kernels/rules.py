"""The rule book: how every optimizer moves a parameter, in historical order.

Each rule is the whole of its optimizer: `p` the parameter, `g` its gradient, then the optimizer's state,
named as PyTorch names it. `S` is how parameters are stored, `T` (float32 or wider) how everything is
computed and how state is kept. Whatever depends on the step, and every `1 - beta`, comes from the host,
where it is computed in double.

A zero gradient with zero state moves nothing: the padding between tensors of one buffer stays zero.
"""

from kernels.elementwise import Elementwise

# p <- p - lr d                                         [Robbins & Monro 1951]; heavy ball [Polyak 1964]
#     d = b,  b <- momentum b + (1 - dampening) (g + weight_decay p)
#     d = g + momentum b   with nesterov                [Sutskever, Martens, Dahl & Hinton 2013, eq. 3-4]
# PyTorch's form: the velocity has no learning rate in it, and the first b is the gradient itself, so the
# host passes one_minus_dampening = 1 at the first step (b is zero then).
SGD = Elementwise(
    "sgd",
    "S g",
    "S p, T momentum_buffer",
    scalars="lr momentum one_minus_dampening weight_decay",
    flags="momentum nesterov maximize",
    body="""
    #if maximize
    T d = weight_decay * T(p) - T(g);
    #else
    T d = weight_decay * T(p) + T(g);               // L2 penalty
    #endif
    #if momentum
    T b = momentum * momentum_buffer + one_minus_dampening * d;
    momentum_buffer = b;
    #if nesterov
    d = d + momentum * b;                           // look ahead
    #else
    d = b;
    #endif
    #endif
    p = T(p) - lr * d;
""",
)

# m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2                    [Kingma & Ba 2015, alg. 1]
# p <- p - step_size m / (sqrt(v) / bias2_sqrt + eps)
#     step_size = lr / (1 - beta1^t),  bias2_sqrt = sqrt(1 - beta2^t)
#     decoupled: p shrinks by lr weight_decay, outside of m and v                  [Loshchilov & Hutter 2019]
#     amsgrad: the largest v so far divides                                        [Reddi, Kale & Kumar 2018]
# Where eps stands, and that amsgrad compares v before its bias is corrected, is PyTorch's choice.
ADAM = Elementwise(
    "adam",
    "S g",
    "S p, T exp_avg, T exp_avg_sq, T max_exp_avg_sq",
    scalars="lr beta1 one_minus_beta1 beta2 one_minus_beta2 eps weight_decay step_size bias2_sqrt",
    flags="amsgrad decoupled maximize",
    body="""
    T x = T(p);
    #if maximize
    T d = -T(g);
    #else
    T d = T(g);
    #endif
    #if decoupled
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
