"""The layers' texts: what a layer computes beyond its matrix product, fused into one pass over memory."""

from kernels.elementwise import Elementwise

# y = max(x + b, 0), the bias b broadcast over the rows of x
BIAS_RELU = Elementwise("bias_relu", "S x, S b", "S y", "y = max(T(x) + T(b), T(0));")
