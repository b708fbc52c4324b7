"""A matrix for every matrix: the elementwise parts of Shampoo, Muon and SOAP.

What these rules are stands in products, roots and bases of matrices, array code that reads like the papers
(minigrad/optim/{shampoo,muon,soap,matrix}.py). Before and after it the whole buffer goes through one text:

    matrix_gradient   the gradient in the type computed in; Muon's is its momentum
    matrix_step       the parameters move by what came out of the matrices
"""

from kernels.elementwise import Elementwise

# update = g, in T: what the matrices are made of
#     decay: + weight_decay p, an L2 penalty
MATRIX_GRADIENT = Elementwise(
    "matrix_gradient",
    "S g, S p",
    "T update",
    scalars="weight_decay",
    flags="decay maximize",
    body="""
    #if maximize
    T d = -T(g);
    #else
    T d = T(g);
    #endif
    #if decay
    d = d + weight_decay * T(p);
    #endif
    update = d;
""",
)

# p <- keep p - lr update;   keep = 1 - lr weight_decay
#     momentum: b <- momentum b + update stands in for update                                 (heavy ball)
MATRIX_STEP = Elementwise(
    "matrix_step",
    "T update",
    "S p, T momentum_buffer",
    scalars="lr keep momentum",
    flags="momentum",
    body="""
    #if momentum
    T b = momentum * momentum_buffer + update;
    momentum_buffer = b;
    #else
    T b = update;
    #endif
    p = keep * T(p) - lr * b;
""",
)

# The step whose norm Shampoo's takes over, tensor by tensor                           [Anil et al. 2020, 2.4]
#     v <- beta2 v + (1 - beta2) d^2,  graft = d / (sqrt(v) + eps)                                (RMSprop's)
#     adam: m <- beta1 m + (1 - beta1) d,  graft = m / bias1 / (sqrt(v / bias2) + eps)               (Adam's)
SHAMPOO_GRAFT = Elementwise(
    "shampoo_graft",
    "T update",
    "T exp_avg_sq, T graft, T exp_avg",
    scalars="beta1 one_minus_beta1 beta2 one_minus_beta2 bias1 bias2 eps",
    flags="adam",
    body="""
    T d = update;
    T v = beta2 * exp_avg_sq + one_minus_beta2 * d * d;
    exp_avg_sq = v;
    #if adam
    T m = beta1 * exp_avg + one_minus_beta1 * d;
    exp_avg = m;
    m = m / bias1;
    v = v / bias2;
    #else
    T m = d;
    #endif
    graft = m == T(0) ? T(0) : m / (sqrt(v) + eps);
""",
)

# b <- momentum b + (1 - momentum) g,  update = from_buffer b + from_gradient g              [Jordan 2024]
#     Nesterov: from_buffer = momentum, from_gradient = 1 - momentum; else update = b. Newton-Schulz divides
#     by the norm, so only the ratio of the two counts.
MUON = Elementwise(
    "muon",
    "S g",
    "T momentum_buffer, T update",
    scalars="momentum one_minus_momentum from_buffer from_gradient",
    flags="nesterov",
    body="""
    T d = T(g);
    T b = momentum * momentum_buffer + one_minus_momentum * d;
    momentum_buffer = b;
    #if nesterov
    update = from_buffer * b + from_gradient * d;
    #else
    update = from_buffer * b;
    #endif
""",
)

# m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g'^2                          [Vyas et al. 2024]
#     g' = projected, the gradient in the eigenbases
SOAP = Elementwise(
    "soap",
    "T update, T projected",
    "T exp_avg, T exp_avg_sq",
    scalars="beta1 one_minus_beta1 beta2 one_minus_beta2",
    body="""
    T d = projected;
    exp_avg = beta1 * exp_avg + one_minus_beta1 * update;
    exp_avg_sq = beta2 * exp_avg_sq + one_minus_beta2 * d * d;
""",
)

# n' = m' / (sqrt(v) + eps),  m' = projected, the first moment in the eigenbases
SOAP_DIRECTION = Elementwise(
    "soap_direction",
    "T exp_avg_sq",
    "T projected",
    scalars="eps",
    body="""
    T m = projected;
    projected = m == T(0) ? T(0) : m / (sqrt(exp_avg_sq) + eps);
""",
)
