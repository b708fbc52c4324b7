"""Normal numbers that are computed, not kept: Philox's words, bent into the bell curve.

    z = sqrt(-2 log u) cos a,   u = (c0 + 1/2) / 2^32 in (0, 1],   a = 2 pi c1 / 2^32      [Box & Muller 1958]

Element k of parameter number n at step t has the counter (k, t + 2^32 n) and the key `seed`
(kernels/dropout.py has Philox), so what it gets depends on nothing else: not on the arena it lies in, nor on
what was drawn before, and a run that is resumed draws what it would have drawn.

The logarithm and the cosine are written out in + - * / and selections, because every machine gives the same
bits for those: a logarithm by halving and the series of atanh, a cosine by quarter turns and Taylor's series,
both to the last digit of a double. The largest |z| is 6.8.

`place` says of every chunk of 1,024 elements: the number of its parameter, the first of that parameter's
elements in it, and how many the parameter has; those beyond are pads.
"""

from math import factorial

from kernels.dropout import PHILOX

_HALVING = "".join(
    f"""
    k = x >= T({by}) ? k + T({power}) : k;
    x = x >= T({by}) ? x * T({1 / by!r}) : x;"""
    for by, power in ((65536.0, 16), (256.0, 8), (16.0, 4), (4.0, 2), (2.0, 1))
)


def _series(variable: str, coefficients: list[float]) -> str:
    """c0 + variable (c1 + variable (...)), by Horner."""
    text = f"T({coefficients[-1]!r})"
    for c in reversed(coefficients[:-1]):
        text = f"T({c!r}) + {variable} * ({text})"
    return text


def _taylor(first: int) -> list[float]:
    """1/first!, -1/(first + 2)!, ...: cosine (0), and sine without one factor of its argument (1)."""
    return [(-1) ** k / factorial(2 * k + first) for k in range(9)]


# z, a normal number, from the words c0 and c1
NORMAL = f"""
    T x = T(c0) + T(0.5);                           // log u = log x - 32 log 2,  x = m 2^k
    T k = T(0);{_HALVING}
    k = x > T(1.4142135623730951) ? k + T(1) : k;
    x = x > T(1.4142135623730951) ? x * T(0.5) : x;
    k = x < T(0.7071067811865476) ? k - T(1) : k;
    x = x < T(0.7071067811865476) ? x * T(2) : x;
    T s = (x - T(1)) / (x + T(1));
    T w = s * s;
    T log_m = T(2) * s * ({_series("w", [1 / n for n in range(1, 25, 2)])});
    T far = sqrt(T(2) * ((T(32) - k) * T(0.6931471805599453) - log_m));
    T a = (T(c1 & 0x3FFFFFFFu) * T(9.313225746154785e-10) - T(0.5)) * T(1.5707963267948966);
    T aa = a * a;
    T sine = a * ({_series("aa", _taylor(1))});
    T cosine = {_series("aa", _taylor(0))};
    uint32 turn = c1 >> 30;
    T side = (turn & 1u) == 0u ? cosine : sine;
    T z = far * ((turn & 2u) == 0u ? side : -side);
"""


def normal(chunk: str, position: str) -> str:
    """The text that computes z, and `real`: whether the element at this position of the chunk is no pad."""
    numbers = PHILOX.replace("uint64(i)", "uint64(element)")
    numbers = numbers.replace("draw[1]", f"(uint64(place[3 * {chunk}]) << 32) | draw[1]")
    return f"""
    int64 element = place[3 * {chunk} + 1] + {position};
    bool real = element < place[3 * {chunk} + 2];{numbers}{NORMAL}"""
