"""Derivatives of functions, as torch.autograd.functional has them: vjp, jvp, hvp, vhp, jacobian, hessian.

    vjp   vᵀJ   one backward pass
    jvp   J v   vᵀJ is linear in v, so its own derivative by v, in the direction given, is J v: two passes
    hvp   H v   the gradient of (gradient · v): two backward passes, the Hessian is never built

Each takes a function of Tensors, its inputs (a Tensor or a tuple) and a direction of the same form, and
returns the function's value and the product; with create_graph both are differentiable again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import ops
from .autograd import grad
from .backend import full, xp_of
from .grad_mode import enable_grad
from .tensor import Tensor

Tensors = Tensor | tuple[Tensor, ...]


def vjp(
    func: Callable,
    inputs: Tensors,
    v: Tensors | None = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Tensors, Tensors]:
    """(func(*inputs), vᵀJ): v has the form of the outputs, and may be left out for a single number."""
    call = _Call("vjp", func, inputs, create_graph, strict)
    seeds = _direction("vjp", v, call.outputs)
    return call.results(call.gradients(call.outputs, seeds, create_graph), call.tuple_in)


def jvp(
    func: Callable,
    inputs: Tensors,
    v: Tensors | None = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Tensors, Tensors]:
    """(func(*inputs), J v): v has the form of the inputs, and may be left out for a single number."""
    call = _Call("jvp", func, inputs, create_graph, strict)
    directions = _direction("jvp", v, call.inputs)
    with enable_grad():
        seeds = [_filled(y, 0).requires_grad_() for y in call.outputs]
        pulled = call.gradients(call.outputs, seeds, True)
        pairs = [(g, d) for g, d in zip(pulled, directions, strict=True) if g.requires_grad]
        found = _grad([g for g, _ in pairs], seeds, [d for _, d in pairs], create_graph)
    return call.results(
        [_filled(y, 0) if g is None else g for y, g in zip(call.outputs, found)], call.tuple_out
    )


def hvp(
    func: Callable,
    inputs: Tensors,
    v: Tensors | None = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Tensors, Tensors]:
    """(func(*inputs), H v) of a function with one element; v has the form of the inputs."""
    return _second("hvp", func, inputs, v, create_graph, strict)


def vhp(
    func: Callable,
    inputs: Tensors,
    v: Tensors | None = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Tensors, Tensors]:
    """(func(*inputs), vᵀH): the Hessian is symmetric, so this is hvp."""
    return _second("vhp", func, inputs, v, create_graph, strict)


def _second(name: str, func: Callable, inputs: Any, v: Any, create_graph: bool, strict: bool) -> Any:
    call = _Call(name, func, inputs, create_graph, strict)
    _one_element(name, call.outputs)
    v = _direction(name, v, call.inputs)
    first = call.gradients(call.outputs, [_filled(call.outputs[0], 1)], True)
    return call.results(call.gradients(first, v, create_graph), call.tuple_in)


def jacobian(
    func: Callable,
    inputs: Tensors,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """d func / d inputs, of shape (*output shape, *input shape): a backward pass for each element of the
    output.

    A tuple for several inputs, and a tuple of those for several outputs.
    """
    if vectorize or strategy != "reverse-mode":
        raise ValueError(
            f"jacobian: vectorize={vectorize}, strategy={strategy!r} are not supported; use "
            "vectorize=False and strategy='reverse-mode'"
        )
    call = _Call("jacobian", func, inputs, create_graph, strict)
    rows = []
    for y in call.outputs:
        elements = []
        for k in range(y.array.size):
            seed = _filled(y, 0)
            seed.array.reshape(-1)[k] = 1
            elements.append(call.gradients([y], [seed], create_graph))
        shape = tuple(y.array.shape)
        rows.append(tuple([_stacked([e[k] for e in elements], shape, x) for k, x in enumerate(call.inputs)]))
    wrapped = [row if call.tuple_in else row[0] for row in rows]
    return tuple(wrapped) if call.tuple_out else wrapped[0]


def hessian(
    func: Callable,
    inputs: Tensors,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The second derivatives of a function with one element: (*shape, *shape); for several inputs, blocks."""

    def gradient(*values: Tensor) -> Tensors:
        y = func(*values)
        _one_element("hessian", [y])
        found = _grad([y] if y.requires_grad else [], list(values), [_filled(y, 1)], True)
        for k, g in enumerate(found):
            if g is None and strict:
                raise RuntimeError(
                    f"hessian: the result does not depend on inputs[{k}]; strict=False gives zeros"
                )
        gradients = [_filled(x, 0) if g is None else g for x, g in zip(values, found, strict=True)]
        return tuple(gradients) if isinstance(inputs, tuple) else gradients[0]

    return jacobian(gradient, inputs, create_graph, strict, vectorize, outer_jacobian_strategy)


class _Call:
    """A function called on inputs of our own, so that no graph or .grad of the caller is touched."""

    def __init__(self, name: str, func: Callable, inputs: Any, create_graph: bool, strict: bool):
        self.name, self.strict, self.create_graph = name, strict, create_graph
        self.tuple_in = not isinstance(inputs, Tensor)
        listed = list(inputs) if self.tuple_in else [inputs]
        for k, x in enumerate(listed):
            if not isinstance(x, Tensor):
                raise TypeError(f"{name}: inputs[{k}] is {type(x).__name__}; inputs must be Tensors")
        with enable_grad():
            attached = create_graph and any(x.requires_grad for x in listed)
            self.inputs = [
                x.clone() if attached and x.requires_grad else x.detach().requires_grad_() for x in listed
            ]
            y = func(*self.inputs)
        self.tuple_out = not isinstance(y, Tensor)
        self.outputs: list[Tensor] = list(y) if self.tuple_out else [y]

    def gradients(
        self, outputs: Sequence[Tensor], seeds: Sequence[Tensor], create_graph: bool
    ) -> list[Tensor]:
        """The gradients by the inputs; zeros where there is none, which strict refuses."""
        with enable_grad():
            pairs = [(y, s) for y, s in zip(outputs, seeds, strict=True) if y.requires_grad]
            found = _grad([y for y, _ in pairs], self.inputs, [s for _, s in pairs], create_graph)
        for k, g in enumerate(found):
            if g is None:
                if self.strict:
                    raise RuntimeError(
                        f"{self.name}: the result does not depend on inputs[{k}]; strict=False gives zeros"
                    )
                found[k] = _filled(self.inputs[k], 0)
        return found

    def results(self, product: list[Tensor], as_tuple: bool) -> tuple[Tensors, Tensors]:
        """(outputs, product) in the caller's form, outside any graph unless create_graph."""
        outputs, product = (
            [t if self.create_graph else t.detach() for t in ts] for ts in (self.outputs, product)
        )
        return (
            tuple(outputs) if self.tuple_out else outputs[0],
            tuple(product) if as_tuple else product[0],
        )


def _grad(outputs: list, inputs: list, seeds: list, create_graph: bool) -> list:
    """grad() that allows unused inputs, and no outputs at all."""
    if not outputs:  # nothing depends on anything
        return [None] * len(inputs)
    return list(grad(outputs, inputs, seeds, retain_graph=True, create_graph=create_graph, allow_unused=True))


def _filled(x: Tensor, value: int) -> Tensor:
    return Tensor(full(x.array.shape, value, x.array.dtype, x.device))


def _direction(name: str, v: Any, like: list[Tensor]) -> list[Tensor]:
    """v as a list of Tensors with the shapes of `like`; ones for a single number. ValueError else."""
    if v is None:
        if len(like) > 1 or like[0].array.size != 1:
            raise ValueError(f"{name}: v may only be left out for a single element; give a direction")
        return [_filled(like[0], 1)]
    listed = [v] if isinstance(v, Tensor) else list(v)
    if [tuple(d.shape) for d in listed] != [tuple(x.shape) for x in like]:
        raise ValueError(
            f"{name}: v has shapes {[tuple(d.shape) for d in listed]}; they must be "
            f"{[tuple(x.shape) for x in like]}"
        )
    return listed


def _one_element(name: str, outputs: list) -> None:
    if len(outputs) != 1 or not isinstance(outputs[0], Tensor) or outputs[0].array.size != 1:
        raise ValueError(f"{name}: the function must return one Tensor with one element")


def _stacked(gradients: list[Tensor], shape: tuple[int, ...], x: Tensor) -> Tensor:
    """The gradients by x of the elements of an output of some shape, as one Tensor."""
    if not gradients:
        return Tensor(xp_of(x.array).zeros((*shape, *x.array.shape), x.array.dtype))
    return ops.reshape(ops.stack(0, *gradients), (*shape, *x.array.shape))
