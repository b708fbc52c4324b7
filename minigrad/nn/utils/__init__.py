"""Functions on all parameters of a model: clipping their gradients, and the parameters as one vector."""

from .clip_grad import (
    clip_grad_adaptive_,
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
)
from .convert_parameters import parameters_to_vector, vector_to_parameters
