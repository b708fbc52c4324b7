"""Steps in the metric of the model's own distribution: the elementwise parts of K-FAC.

The Kronecker factors and their inverses are array code that reads like the paper (minigrad/optim/kfac.py).
Before it the whole buffer goes through `matrix_gradient`, after it through these.
"""

from kernels.elementwise import Elementwise

# update <- update / (fisher + damping):  what is no layer has the diagonal of the Fisher
KFAC_DIAGONAL = Elementwise(
    "kfac_diagonal",
    "T fisher",
    "T update",
    scalars="damping",
    body="update = update / (fisher + damping);",
)

# b <- momentum b + nu update,  p <- keep p - lr b        [Martens & Grosse 2015, Algorithm 2; Ba et al. 2017]
#     keep = 1 - lr weight_decay;  nu <= 1 keeps the step inside of a ball in the Fisher's metric
KFAC = Elementwise(
    "kfac",
    "T update, raw T nu",
    "S p, T momentum_buffer",
    scalars="lr keep momentum",
    flags="momentum",
    body="""
    T b = nu[0] * update;
    #if momentum
    b = momentum * momentum_buffer + b;
    momentum_buffer = b;
    #endif
    p = keep * T(p) - lr * b;
""",
)
