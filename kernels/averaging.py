"""Averages of weights over a run: one launch for all parameters that lie side by side."""

from kernels.elementwise import Elementwise

# average <- average + w (p - average)                              [Polyak & Juditsky 1992]
#     w = 1 - decay: the exponential moving average;   w = 1 / (n + 1): the mean  [Izmailov et al. 2018]
# From w = 1/2 on it is counted from p, as PyTorch's lerp does: w = 1 then gives p to the last bit.
AVERAGE = Elementwise(
    "average",
    "S p",
    "S average",
    scalars="w one_minus_w",
    body="""
    T x = T(p);
    T a = T(average);
    average = w < T(0.5) ? a + w * (x - a) : x - one_minus_w * (x - a);
""",
)
