"""Gradient descent and its momentum."""

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
