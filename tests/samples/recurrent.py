"""Samples of recurrent layers and cells: layers, directions, biases, states to begin with."""

from minigrad.nn.functional import recurrent

from . import Sample, normal

GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}


def layers(kind, label, *, steps=3, batch=2, into=2, hidden=3, num=1, bias=True, both=False, first=False):
    """kind(input, hx, params, ...) as torch.lstm has it."""
    ways, states = 2 if both else 1, 2 if kind == "lstm" else 1
    rows = GATES[kind] * hidden
    params = []
    for layer in range(num):
        for _ in range(ways):
            width = into if layer == 0 else hidden * ways
            params += [normal(rows, width), normal(rows, hidden)] + [normal(rows)] * 2 * bias

    def reference(m, x, *t):
        hx = t[:states] if states > 1 else t[0]
        return getattr(m, kind)(x, hx, t[states:], bias, num, 0.0, True, both, first)

    def fn(m, x, *t):
        return recurrent.run(kind, x, t[:states], t[states:], bias, num, 0.0, True, both, first)

    shape = (batch, steps, into) if first else (steps, batch, into)
    start = [normal(num * ways, batch, hidden)] * states
    return Sample(f"{kind} {label}", fn, normal(*shape), *start, *params, reference=reference)


def cell(kind, label, bias=True):
    def call(functions, x, *t):
        hx, params = (t[:2], t[2:]) if kind == "lstm" else (t[0], t[1:])
        return getattr(functions, f"{kind}_cell")(x, hx, *params)

    rows = 3 * GATES[kind]
    inputs = normal(2, 4), *[normal(2, 3)] * (1 + (kind == "lstm")), normal(rows, 4), normal(rows, 3)
    return Sample(
        f"{kind}_cell {label}",
        lambda m, *t: call(recurrent, *t),
        *inputs,
        *[normal(rows)] * 2 * bias,
        reference=lambda m, *t: call(m, *t),
    )


SAMPLES = [
    sample
    for kind in GATES
    for sample in (
        layers(kind, "one layer"),
        layers(kind, "without biases", bias=False),
        layers(kind, "two layers, batch first", num=2, first=True),
        layers(kind, "both directions", both=True),
        layers(kind, "two layers, both directions", num=2, both=True, steps=2),
        layers(kind, "one step", steps=1, batch=1, hidden=4),
        layers(kind, "nobody", batch=0),
        cell(kind, "with biases"),
        cell(kind, "without biases", bias=False),
    )
]
