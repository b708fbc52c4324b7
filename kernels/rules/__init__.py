"""The rule book: how every optimizer moves a parameter; chapters, and the rules in each, in historical order.

    descent      1951   gradient descent and its momentum; other geometries; noise; the step size that learns
    adaptive     1992   a step size for every parameter: ASGD, Rprop, Adagrad, Adadelta, RMSprop
    adam         2014   Adam, and what was changed about it
    curvature    2015   the metric of the model's own distribution: K-FAC
    layerwise    2017   a step size for every layer: LARS, Adafactor, LAMB
    matrix       2018   a matrix for every matrix: Shampoo, Muon, SOAP
    around       2019   what stands around another rule: slow weights, the worst point nearby
    modern       2022   other moments, signs, curvature, averages of the path

Each rule is the whole of its optimizer: `p` the parameter, `g` its gradient, then the optimizer's state,
named as PyTorch names it. `S` is how parameters are stored, `T` (float32 or wider) how everything is
computed and how state is kept. Whatever depends on the step, and every `1 - beta`, comes from the host,
where it is computed in double.

A zero gradient with zero state moves nothing: the padding between tensors of one buffer stays zero.
"""

from kernels.rules.adam import ADAM, ADAMAX, NADAM, RADAM
from kernels.rules.adaptive import ADADELTA, ADAGRAD, ASGD, RMSPROP, RPROP
from kernels.rules.around import LOOKAHEAD, SAM, SAM_NORM, SAM_NORMS
from kernels.rules.curvature import KFAC, KFAC_DIAGONAL
from kernels.rules.descent import (
    ADAM_HD,
    EXPONENTIATED,
    GRADIENT_NOISE,
    HYPER_DOT,
    HYPER_RATE,
    LOOK_AHEAD,
    MIRROR,
    NORMAL_NOISE,
    P_NORM,
    PERTURB_DECIDE,
    PERTURB_NORMS,
    PERTURBED_DESCENT,
    SGD,
    SGD_HD,
)
from kernels.rules.layerwise import (
    ADAFACTOR,
    ADAFACTOR_COLUMNS,
    ADAFACTOR_COLUMNS_OF_MANY,
    ADAFACTOR_NORMS,
    ADAFACTOR_ROWS,
    ADAFACTOR_STEP,
    ADAFACTOR_VECTORS,
    LAMB,
    LAMB_NORMS,
    LAMB_STEP,
    LAMB_TRUST,
    LARS,
    LARS_NORMS,
    LARS_TRUST,
)
from kernels.rules.matrix import MATRIX_GRADIENT, MATRIX_STEP, MUON, SHAMPOO_GRAFT, SOAP, SOAP_DIRECTION
from kernels.rules.modern import (
    ADAMW_SCHEDULE_FREE,
    ADAN,
    ADEMAMIX,
    LION,
    PRODIGY,
    PRODIGY_ESTIMATE,
    PRODIGY_MOMENTS,
    SCHEDULE_FREE_EVAL,
    SCHEDULE_FREE_TRAIN,
    SGD_SCHEDULE_FREE,
    SOPHIA,
    SOPHIA_HESSIAN,
)

__all__ = [
    "ADADELTA",
    "ADAFACTOR",
    "ADAFACTOR_COLUMNS",
    "ADAFACTOR_COLUMNS_OF_MANY",
    "ADAFACTOR_NORMS",
    "ADAFACTOR_ROWS",
    "ADAFACTOR_STEP",
    "ADAFACTOR_VECTORS",
    "ADAGRAD",
    "ADAM",
    "ADAMAX",
    "ADAMW_SCHEDULE_FREE",
    "ADAM_HD",
    "ADAN",
    "ADEMAMIX",
    "ASGD",
    "EXPONENTIATED",
    "GRADIENT_NOISE",
    "HYPER_DOT",
    "HYPER_RATE",
    "KFAC",
    "KFAC_DIAGONAL",
    "LAMB",
    "LAMB_NORMS",
    "LAMB_STEP",
    "LAMB_TRUST",
    "LARS",
    "LARS_NORMS",
    "LARS_TRUST",
    "LION",
    "LOOKAHEAD",
    "LOOK_AHEAD",
    "MATRIX_GRADIENT",
    "MATRIX_STEP",
    "MIRROR",
    "MUON",
    "NADAM",
    "NORMAL_NOISE",
    "PERTURBED_DESCENT",
    "PERTURB_DECIDE",
    "PERTURB_NORMS",
    "PRODIGY",
    "PRODIGY_ESTIMATE",
    "PRODIGY_MOMENTS",
    "P_NORM",
    "RADAM",
    "RMSPROP",
    "RPROP",
    "SAM",
    "SAM_NORM",
    "SAM_NORMS",
    "SCHEDULE_FREE_EVAL",
    "SCHEDULE_FREE_TRAIN",
    "SGD",
    "SGD_HD",
    "SGD_SCHEDULE_FREE",
    "SHAMPOO_GRAFT",
    "SOAP",
    "SOAP_DIRECTION",
    "SOPHIA",
    "SOPHIA_HESSIAN",
]
