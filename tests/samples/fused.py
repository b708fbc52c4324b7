"""Samples of fused layers; torch computes them in pieces."""

from . import Sample, normal


def fused_linear(label, *inputs, activation=None, residual=False, second=True):
    def fn(m, *t):
        given = dict(residual=t[-1]) if residual else {}
        return m.nn.functional.linear(*t[: len(t) - residual], activation=activation, **given)

    def reference(m, *t):
        f, y = m.nn.functional, m.nn.functional.linear(*t[: len(t) - residual])
        if activation == "gelu_tanh":
            y = f.gelu(y, approximate="tanh")
        elif activation is not None:
            y = getattr(f, activation)(y)
        return y + t[-1] if residual else y

    name = f"fused linear {label} activation={activation} residual={residual}"
    return Sample(name, fn, *inputs, reference=reference, second=second)


def dropped(m, x, r, p):
    """The mask is drawn by minigrad: it starts from one seed at each call."""
    m.manual_seed(3)
    return m.nn.functional.dropout_add(x, r, p)


def joined(m, x, r, w, b):
    """A sum of both results; torch makes them one after the other."""
    if hasattr(m.nn.functional, "residual_layer_norm"):
        total, y = m.nn.functional.residual_layer_norm(x, r, (4,), w, b)
    else:
        total = x + r
        y = m.nn.functional.layer_norm(total, (4,), w, b)
    return total * 0.5 + y


SAMPLES = (
    [
        fused_linear(
            label, *inputs[: 3 if bias else 2], *inputs[3:] * residual, activation=name, residual=residual
        )
        for label, bias, inputs in (
            ("matrix", True, (normal(3, 4), normal(5, 4), normal(5), normal(3, 5))),
            ("3-d", True, (normal(2, 3, 4), normal(5, 4), normal(5), normal(2, 3, 5))),
            ("vector", True, (normal(4), normal(5, 4), normal(5), normal(5))),
            ("nothing", True, (normal(0, 4), normal(5, 4), normal(5), normal(0, 5))),
            ("without bias", False, (normal(3, 4), normal(5, 4), normal(5), normal(3, 5))),
        )
        for name in (None, "gelu_tanh", "gelu")
        for residual in (True,)
    ]
    + [
        Sample(
            f"dropout_add {shape} p={p}",
            lambda m, x, r, p=p: dropped(m, x, r, p),
            normal(*shape),
            normal(*shape),
            oracle=p in (0.0, 1.0),
            reference=lambda m, x, r, p=p: r + x * (1 - p),
        )
        for shape in ((3, 4), (2, 3, 5), (0, 4))
        for p in (0.0, 0.3, 1.0)
    ]
    + [
        Sample(
            f"residual_layer_norm {shape} {'affine' if affine else 'plain'}",
            (lambda m, x, r, *of: joined(m, x, r, *of))
            if affine
            else (lambda m, x, r: joined(m, x, r, None, None)),
            normal(*shape),
            normal(*shape),
            *(normal(4), normal(4)) * affine,
        )
        for shape in ((3, 4), (2, 3, 4))
        for affine in (True, False)
    ]
)
