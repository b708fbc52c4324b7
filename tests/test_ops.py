"""Every operation: its value, gradient and gradient of the gradient, from the sample table (tests/samples).

Claimed of each sample: torch has the same values, gradients and second gradients in float64, to 1e-10 of
the largest entry; numerical differentiation agrees, to first and second order, without torch; create_graph
changes no gradient; the float32 run gives float32 results near the float64 ones. And of the table: every
operation, and every vjp, is run by it.
"""

import importlib
import pkgutil
from collections import Counter
from typing import Any

import numpy as np
import pytest
from oracle import oracle
from samples import Sample, collected

import minigrad as mg
from minigrad import ops
from minigrad.autograd import Op

SAMPLES = collected()


def every(*needed: str) -> Any:
    """Runs a test for the samples of which all these attributes hold."""
    chosen = [s for s in SAMPLES if all(getattr(s, name) for name in needed)]
    return pytest.mark.parametrize("sample", chosen, ids=repr)


def flat(results: Any) -> list[Any]:
    """The tensors of a nested result, in order."""
    return [t for r in results for t in flat(r)] if isinstance(results, (tuple, list)) else [results]


def host(tensor: Any) -> np.ndarray:
    return np.asarray(tensor.detach().numpy(force=True))


def inputs_for(m: Any, sample: Sample, float_type: str = "float64") -> tuple[list[Any], list[Any]]:
    """The inputs as tensors of m, and those of them that get gradients."""
    tensors, leaves = [], []
    for k, a in enumerate(sample.arrays()):
        t = m.tensor(a, dtype=getattr(m, float_type)) if a.dtype.kind == "f" else m.tensor(a)
        if sample.differentiable(k, a):
            leaves.append(t.requires_grad_())
        tensors.append(t)
    return tensors, leaves


def directions(
    m: Any, sample: Sample, tensors: list[Any], salt: str, create_graph: bool = False
) -> list[Any]:
    """A fixed random tensor of the shape of each; they require gradients if create_graph."""
    rng = sample.rng(salt)
    made = [m.tensor(rng.standard_normal(tuple(t.shape)), dtype=t.dtype) for t in tensors]
    return [d.requires_grad_() for d in made] if create_graph else made


def outputs_of(m: Any, sample: Sample, tensors: list[Any]) -> list[Any]:
    return flat((sample.fn if m is mg else sample.reference)(m, *tensors))


def gradient(
    m: Any, sample: Sample, create_graph: bool, float_type: str = "float64"
) -> tuple[list, list, list]:
    """(outputs, what they depend on, gradients of the inputs in fixed random directions, or None)."""
    tensors, leaves = inputs_for(m, sample, float_type)
    outputs = outputs_of(m, sample, tensors)
    roots = [y for y in outputs if y.requires_grad]
    if not roots:
        return outputs, leaves, [None] * len(leaves)
    seeds = directions(m, sample, roots, "first", create_graph)
    found = grad_of(m)(roots, leaves, seeds, create_graph=create_graph, allow_unused=True)
    return outputs, leaves + seeds, list(found)


def second_gradient(m: Any, sample: Sample) -> list:
    """The gradients of the gradients, in fixed random directions, by the inputs and the first directions."""
    _, variables, gradients = gradient(m, sample, create_graph=True)
    seeds = directions(m, sample, variables[: len(gradients)], "second")
    pairs = [(g, d) for g, d in zip(gradients, seeds, strict=True) if g is not None and g.requires_grad]
    if not pairs:
        return [None] * len(variables)
    roots, seeds = zip(*pairs, strict=True)
    return list(grad_of(m)(roots, variables, seeds, allow_unused=True))


def grad_of(m: Any) -> Any:
    return m.grad if m is mg else m.autograd.grad


def gradients_on_device(sample: Sample) -> tuple[list, list]:
    """(outputs, gradients of the inputs) of a sample on the device of a fake CuPy; other tests call this."""
    tensors = [mg.tensor(a, device="cuda") for a in sample.arrays()]
    leaves = [t.requires_grad_() for k, t in enumerate(tensors) if sample.differentiable(k, t.array)]
    outputs = outputs_of(mg, sample, tensors)
    roots = [y for y in outputs if y.requires_grad]
    if not roots:
        return outputs, [None] * len(leaves)
    rng = sample.rng("first")
    seeds = [mg.tensor(rng.standard_normal(tuple(y.shape)), device="cuda") for y in roots]
    return outputs, list(mg.grad(roots, leaves, seeds, allow_unused=True))


def assert_close(ours: np.ndarray, theirs: np.ndarray, rtol: float, what: str) -> None:
    """Equal shapes and types, exact whole numbers, and floats within rtol of the largest finite entry."""
    assert ours.shape == theirs.shape, f"{what}: shape {ours.shape}, expected {theirs.shape}"
    assert ours.dtype == theirs.dtype, f"{what}: {ours.dtype}, expected {theirs.dtype}"
    if ours.dtype.kind != "f":
        np.testing.assert_array_equal(ours, theirs, what)
        return
    finite = theirs[np.isfinite(theirs)]
    scale = np.abs(finite).max() if finite.size else 0.0
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=rtol * scale + 1e-13, err_msg=what)


def assert_gradients_close(ours: list, theirs: list, rtol: float, what: str) -> None:
    """As assert_close, where None means zeros: which of the two comes out is the accident of a formula."""
    assert len(ours) == len(theirs)
    for k, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if a is not None and b is not None:
            assert_close(host(a), host(b), rtol, f"{what} {k}")
        elif a is not b:
            present = host(b if a is None else a)
            assert not present.any(), f"{what} {k}: {'missing' if a is None else 'torch has none'}, not zero"


@pytest.mark.oracle
@every("oracle")
def test_values_and_gradients_equal_torch(sample):
    torch = oracle("torch")
    outputs, _, gradients = gradient(mg, sample, create_graph=False)
    expected, _, expected_gradients = gradient(torch, sample, create_graph=False)
    assert len(outputs) == len(expected)
    assert [y.requires_grad for y in outputs] == [y.requires_grad for y in expected]
    for k, (ours, theirs) in enumerate(zip(outputs, expected, strict=True)):
        assert_close(host(ours), host(theirs), sample.rtol, f"output {k}")
    assert_gradients_close(gradients, expected_gradients, sample.rtol, "gradient")


@pytest.mark.oracle
@every("oracle", "has_gradient", "second")
def test_second_gradients_equal_torch(sample):
    torch = oracle("torch")
    ours, theirs = second_gradient(mg, sample), second_gradient(torch, sample)
    assert_gradients_close(ours, theirs, sample.rtol, "second gradient")


def as_function(sample: Sample, tensors: list[Any], leaves: list[Any]) -> Any:
    """fn of the leaves alone, giving its differentiable outputs."""
    positions = [next(k for k, t in enumerate(tensors) if t is leaf) for leaf in leaves]

    def function(*values: Any) -> Any:
        given = list(tensors)
        for k, value in zip(positions, values, strict=True):
            given[k] = value
        return tuple(y for y in outputs_of(mg, sample, given) if y.requires_grad)

    return function


@every("has_gradient", "smooth")
def test_gradients_equal_differences(sample):
    tensors, leaves = inputs_for(mg, sample)
    assert mg.gradcheck(as_function(sample, tensors, leaves), leaves, fast_mode=True)


@every("has_gradient", "smooth", "second")
def test_second_gradients_equal_differences(sample):
    tensors, leaves = inputs_for(mg, sample)
    function = as_function(sample, tensors, leaves)
    assert not function(*leaves) or mg.gradgradcheck(function, leaves, fast_mode=True)


@every("has_gradient")
def test_create_graph_changes_no_gradient(sample):
    _, _, plain = gradient(mg, sample, create_graph=False)
    _, _, recorded = gradient(mg, sample, create_graph=True)
    assert not any(g.requires_grad for g in plain if g is not None)
    assert_gradients_close(plain, recorded, 1e-12, "gradient")


@every("float32")
def test_float32_stays_float32_and_near(sample):
    exact, _, exact_gradients = gradient(mg, sample, create_graph=False)
    outputs, _, gradients = gradient(mg, sample, create_graph=False, float_type="float32")
    for k, (ours, theirs) in enumerate(zip(outputs + gradients, exact + exact_gradients, strict=True)):
        if ours is None or theirs is None:
            assert ours is theirs
            continue
        wanted = host(theirs)
        wanted = wanted.astype(np.float32) if wanted.dtype == np.float64 else wanted
        assert_close(host(ours), wanted, sample.float32, f"result {k}")


# ------------------------------------------------------------------------------------- claims about the table


def test_every_sample_has_a_name_of_its_own():
    doubled = [name for name, n in Counter(map(repr, SAMPLES)).items() if n > 1]
    assert not doubled


def all_ops() -> dict[str, Any]:
    """Every operation defined in minigrad.ops, by module and name."""
    found = {}
    for info in pkgutil.iter_modules(ops.__path__):
        module = importlib.import_module(f"{ops.__name__}.{info.name}")
        for name, value in vars(module).items():
            if isinstance(getattr(value, "op", None), Op) and value.__module__ == module.__name__:
                found[f"{info.name}.{name}"] = value
    return found


def test_every_operation_and_every_vjp_is_run_by_a_sample(monkeypatch):
    known = all_ops()
    never = {f"{name}: forward" for name in known}

    def noting(what: str, function: Any) -> Any:
        def noted(*args: Any) -> Any:
            never.discard(what)
            return function(*args)

        return noted

    operators = [getattr(method, "__globals__", {}) for method in vars(mg.Tensor).values()]
    for name, call in known.items():
        record, what = call.op, f"{name}: forward"
        for scope in [record.scope, *[s for s in operators if s.get("record") is record]]:
            monkeypatch.setitem(scope, "forward", noting(what, scope["forward"]))
        vjps = [(f"{name}: vjp of {argument}", f) for argument, f in record.vjps.items()]
        never.update(what for what, _ in vjps)
        for which in ("pullbacks", "quick"):
            monkeypatch.setattr(record, which, tuple(noting(*pair) for pair in vjps))
        if record.joint is not None:
            never.add(f"{name}: joint vjp")
            monkeypatch.setattr(record, "joint", noting(f"{name}: joint vjp", record.joint))
    for sample in SAMPLES:
        if sample.second:
            second_gradient(mg, sample)
        else:
            gradient(mg, sample, create_graph=False)
    assert not never, "add samples to tests/samples for " + ", ".join(sorted(never))
