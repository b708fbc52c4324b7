"""Random numbers as kernels: the words of Philox (kernels/dropout.py) as signs and as Gumbel's noise."""

from kernels.dropout import PHILOX
from kernels.elementwise import Elementwise

# u = 1 or -1, as likely: the uppermost bit of each word decides
RADEMACHER = Elementwise(
    "rademacher",
    "raw uint64 draw",
    "S u0, S u1, S u2, S u3",
    PHILOX + "\n".join(f"    u{k} = c{k} >> 31 == 0u ? T(1) : T(-1);" for k in range(4)),
)

# -log(-log(u)), u uniform in (0, 1): the largest of logits + these is a sample of their softmax [Gumbel 1954]
GUMBEL = Elementwise(
    "gumbel",
    "raw uint64 draw",
    "T y0, T y1, T y2, T y3",
    PHILOX
    + "\n".join(
        f"    y{k} = -log(-log((T(c{k} >> 9) + T(0.5)) * T(1.1920928955078125e-7)));" for k in range(4)
    ),
)
