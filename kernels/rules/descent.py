"""Gradient descent and its momentum."""

from kernels.elementwise import Elementwise

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
