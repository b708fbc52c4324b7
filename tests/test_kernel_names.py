"""A text may use any name that is not refused, in any role: what is generated around it keeps out of the way.

A name that met one of the generated code's own would not compile, and the kernel would quietly run on the
NumPy machine; so every kernel there is must build, with every flag.
"""

import numpy as np
import pytest
from test_ptx import every_kernel

import kernels
from kernels import Elementwise, KernelError, Rows
from kernels.compiled import native

NAMES = """
p first count to l c k q x start width inside column chunk place room lane element step along fold LANES WIDTH
Max Sum
""".split()
AROUND = dict(zip(NAMES, NAMES[1:] + NAMES[:1]))


def probe(kind, name, other, third):
    """A kernel with these names as a parameter, a scalar and a local."""
    if kind == "elementwise":
        body = f"T {third} = T({name}) * {other} + state; state = {third}; y = {third} + T(z) + T(i);"
        return Elementwise("probe", f"S z, S {name}", "S y, T state", body, scalars=other)
    axis, line = {"row": (-1, "row"), "column": (0, "col")}[kind]
    body = f"""
        T {third} = T({name}) * {other} + T(w);
        T m = max({third});
        T s = sum({third} - m);
        total = s;
        y = T(z) - m + s + T(j) * T({name});
    """
    return Rows("probe", f"S z, S {name}, {line} S w", f"S y, {line} T total", body, scalars=other, axis=axis)


@pytest.mark.parametrize("kind", ["elementwise", "row", "column"])
@pytest.mark.parametrize("name", NAMES)
def test_natural_names_are_free_in_every_role(kind, name):
    kernel = probe(kind, name, AROUND[name], AROUND[AROUND[name]])
    letters = dict(S="float32", T="float32")
    with kernels.use("compiled"):
        assert native(kernel.variant(()), letters, kernel.host_source) is not None
    x = np.ones((3, 4), np.float32)
    line = {"elementwise": x.copy(), "row": np.ones(3, np.float32), "column": np.ones(4, np.float32)}[kind]
    found = []
    for machine in ("compiled", "numpy"):
        with kernels.use(machine):
            outputs = [np.zeros_like(x), line * 0]
            inputs = [x, 2 * x] if kind == "elementwise" else [x, 2 * x, line]
            kernel(*inputs, *outputs, scalars=[0.5])
            found.append([o.tobytes() for o in outputs])
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["threadIdx", "decltype", "lambda", "from"])
def test_names_of_the_generated_code_are_refused(name):
    for roles in ((name, "a", "b"), ("a", name, "b"), ("a", "b", name)):
        with pytest.raises(KernelError, match="which a text becomes"):
            probe("row", *roles)


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "flags"), list(every_kernel()))
def test_every_kernel_builds_with_every_flag(kernel, flags):
    letters = dict.fromkeys(kernel.letters - {"S", "T"}, "int64") | dict(S="float16", T="float32")
    with kernels.use("compiled"):
        assert native(kernel.variant(flags), letters, kernel.host_source) is not None
