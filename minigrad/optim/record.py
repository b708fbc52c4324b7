"""Record: what the registry knows of a rule. Tables, reference and tests are generated from it.

A class states what cannot be computed; the rest is read off the class and its kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..tensor import Parameter, Tensor

KINDS = ("elementwise", "layer-wise", "matrix", "global")


@dataclass
class Record:
    """One optimizer.

    year, paper: where it was published first, with the algorithm or equation that we follow
    latex      : the update, theta the parameters, g the gradient, eta the learning rate
    oracles    : the libraries whose results it reproduces
    proof      : the test file that proves it; by default tests/test_rules.py, against a transcription of the
                 paper (tests/transcriptions) and the oracles
    kind       : elementwise, layer-wise (norms per tensor), matrix, global
    needs      : besides a gradient: "closure", "Hessian-vector product", ...
    state      : bytes of state a float32 parameter, where they depend on more than the rule; else measured
    launches   : kernel launches of one step over one group of `tensors` parameters
    presets    : options by source, where sources differ; "torch" and "paper" as those have it
    texts      : the kernels, where there is more than the class's own
    example    : makes one over parameters, where the class needs more than them
    """

    year: int
    paper: str
    latex: str
    oracles: tuple[str, ...]
    kind: str = "elementwise"
    needs: tuple[str, ...] = ()
    state: str = ""
    launches: str = "1"
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    texts: tuple[Any, ...] = ()
    proof: str = ""
    example: Callable[[Any], Any] | None = None
    cls: Any = None

    def __set_name__(self, owner: type, name: str) -> None:
        self.cls = owner

    @property
    def name(self) -> str:
        """The class's name."""
        return self.cls.__name__

    @property
    def kernels(self) -> tuple[Any, ...]:
        """The texts of the rule."""
        return self.texts or (() if self.cls.kernel is None else (self.cls.kernel,))

    def make(self, params: Any, **options: Any) -> Any:
        """An optimizer of this rule over params, with its defaults where no options are given."""
        return self.cls(params, **options) if self.example is None else self.example(params, **options)

    @cached_property
    def state_bytes(self) -> float:
        """Bytes of state a float32 parameter, with the default options, measured on a 32 x 32 matrix."""
        p = Parameter(Tensor(np.ones((32, 32), np.float32)))
        optimizer = self.make([p])
        p.grad = Tensor(np.ones((32, 32), np.float32))

        def closure() -> Tensor:
            loss = (p * p).sum()
            if "own backward" not in self.needs:
                p.grad = None
                loss.backward()
            return loss

        for name, function in dict(sampled_loss=lambda: (p * p).sum(), outputs=lambda: p * p).items():
            if hasattr(optimizer, name):
                setattr(optimizer, name, function)
        optimizer.step(closure)
        slots = optimizer.state.get(p, {})
        return sum(s.array.nbytes for s in slots.values() if isinstance(s, Tensor)) / p.numel()

    @property
    def moved_bytes(self) -> int | None:
        """Bytes that a step reads and writes a float32 parameter; None where several share the work."""
        if len(self.kernels) != 1 or self.kind != "elementwise":
            return None
        optimizer = self.make([Parameter(Tensor(np.ones(1, np.float32)))])
        variant = self.kernels[0].variant(optimizer.flags(optimizer.param_groups[0]))
        arrays = [p for p in variant.parameters if p.kind == "array"]
        return sum(4 * (not p.output or p.name in variant.loaded) + 4 * p.output for p in arrays)


def registry(namespace: Mapping[str, Any]) -> dict[str, Record]:
    """The records of the rules in a module's namespace, by name, in historical order."""
    records = [vars(c)["record"] for c in namespace.values() if isinstance(c, type) and vars(c).get("record")]
    return {record.name: record for record in sorted(records, key=lambda r: (r.year, r.name))}
