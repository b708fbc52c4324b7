"""Whole vectors of R^n: inner products in double, and steps along a direction by a number on the device."""

from kernels.elementwise import Elementwise
from kernels.rows import Rows

# dots = <a, b> of each row, in double
DOT = Rows("dot", "T a, T b", "row float64 dots", body="dots = sum(float64(a) * float64(b));")

# x <- x + a d
SHIFT = Elementwise("shift", "T d, raw float64 a", "T x", body="x = x + T(a[0]) * d;")
