"""The learning rate of another batch size.

The gradient of a batch of k m examples is the mean of k gradients of m. As long as the parameters hardly move
in between, one step of k times the learning rate does what k steps did:

    linear    lr m / m_ref            [Krizhevsky 2014; Goyal et al. 2017, section 2.1], for SGD
    sqrt      lr sqrt(m / m_ref)      [Krizhevsky 2014; Malladi et al. 2022], for Adam and its kin: it keeps
                                      the noise of the step, whose deviation falls as 1 / sqrt(m)

Beyond some batch size neither holds; and while the parameters move fast, at the start, warm up over a few
epochs [Goyal et al. 2017, section 2.2].
"""

from __future__ import annotations

from math import isfinite, sqrt

RULES = {"linear": lambda ratio: ratio, "sqrt": sqrt}


def linear_scaling(lr: float, batch_size: float, reference: float = 256, rule: str = "linear") -> float:
    """lr batch_size / reference: the learning rate for batch_size, where lr was right for `reference`.

    With accumulation or several devices, batch_size counts the examples of a whole optimizer step.
    rule="sqrt" takes the square root of the ratio. ValueError for an lr below 0 or sizes that are not
    positive.

    >>> linear_scaling(0.1, 1024)
    0.4
    >>> linear_scaling(1e-3, 1024, rule="sqrt")
    0.002
    """
    if not (isfinite(lr) and lr >= 0):
        raise ValueError(f"linear_scaling: lr={lr}; it must be a finite number of at least 0")
    for what, size in (("batch_size", batch_size), ("reference", reference)):
        if not (isfinite(size) and size > 0):
            raise ValueError(f"linear_scaling: {what}={size}; it must be a positive number of examples")
    if rule not in RULES:
        raise ValueError(f"linear_scaling: rule={rule!r}; the rules are {', '.join(map(repr, RULES))}")
    return lr * RULES[rule](batch_size / reference)
