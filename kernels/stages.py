"""A rows text in stages: what is computed for each element, what for each line, and in how many passes.

A line is what a reduction runs along: a row (axis=-1) or a column (axis=0). Every name has a level:

    UNIFORM   scalars, n               LINE   a row's maximum            ELEMENT   x, exp(x - m)

`T s = sum(exp(x - m));` is read as a reduction `r1_` of an element's expression, and `T s = r1_;`, a
statement of the line. Then the statements fall into passes over the elements: a new pass begins where an
element needs what a reduction of the pass before has found; reductions that do not need each other share a
pass.

    softmax       T m = max(T(x));          pass 0:  r1_ = max(x)
                  T e = exp(T(x) - m);      pass 1:  e = exp(x - m),  r2_ = sum(e)
                  T s = sum(e);
                  y = e / s;                pass 2:  e again,  y = e / s

What an element made in an earlier pass is made again, or kept: the generators choose. Outputs of elements are
stored in the last pass only, so an output may be an input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from kernels.check import REDUCTIONS, Scope
from kernels.dtypes import concrete, promoted
from kernels.errors import KernelError
from kernels.tree import (
    Assign,
    Binary,
    Block,
    Call,
    Cast,
    Declare,
    Expr,
    If,
    Index,
    Name,
    Node,
    Statement,
    Ternary,
    Unary,
    walk,
)

UNIFORM, LINE, ELEMENT = 0, 1, 2


@dataclass(slots=True, eq=False, repr=False)
class Reduce(Node):
    """name = op over the line of value."""

    name: str
    op: str
    value: Expr


Step = Statement | Reduce


@dataclass
class Pass:
    """One walk over the elements of a line."""

    steps: list[Step] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)  # element-level names that earlier passes made
    again: list[Statement] = field(default_factory=list)  # what makes them, in order

    @property
    def reductions(self) -> list[Reduce]:
        return [s for s in self.steps if isinstance(s, Reduce)]


@dataclass
class Stages:
    """between[0], passes[0], between[1], ...: the line's statements and the walks, in order."""

    steps: list[Step]  # as they are written, reductions named
    levels: dict[str, int]
    between: list[list[Statement]]
    passes: list[Pass]

    def types(self, scope: Scope) -> dict[str, str]:
        """The concrete types of all names that steps make for others, and of those given."""
        for s in self.steps:
            if isinstance(s, Declare):
                scope.types[s.name] = concrete(s.type, scope.letters)
            elif isinstance(s, Reduce):
                scope.types[s.name] = promoted(scope.type_of(s.value))
        return scope.types


def is_reduction(e: Expr) -> bool:
    return isinstance(e, Call) and e.function in REDUCTIONS and len(e.arguments) == 1


def _expressions(s: Step) -> Iterator[Expr]:
    match s:
        case Declare() | Assign() | Reduce():
            yield s.value
        case If():
            yield s.condition
            for inner in (*s.then, *s.otherwise):
                yield from _expressions(inner)
        case Block():
            for inner in s.body:
                yield from _expressions(inner)


def declared(s: Step) -> set[str]:
    """Names declared anywhere inside."""
    match s:
        case Declare() | Reduce():
            return {s.name}
        case If():
            return {name for inner in (*s.then, *s.otherwise) for name in declared(inner)}
        case Block():
            return {name for inner in s.body for name in declared(inner)}
    return set()


def assigned(s: Step) -> set[str]:
    """Names assigned anywhere inside, other than by their declaration."""
    match s:
        case Assign():
            return {s.name}
        case If():
            return {name for inner in (*s.then, *s.otherwise) for name in assigned(inner)}
        case Block():
            return {name for inner in s.body for name in assigned(inner)}
    return set()


def inside(s: Step) -> set[str]:
    """Names that live and die inside a statement."""
    return declared(s) if isinstance(s, If | Block) else set()


def reads(s: Step) -> set[str]:
    """Names from outside whose value the step uses; an assignment under a condition keeps the old one."""
    found = {x.name for e in _expressions(s) for x in walk(e) if isinstance(x, Name | Index)}
    if isinstance(s, If) or (isinstance(s, Assign) and s.op):
        found |= assigned(s)
    return found - inside(s)


def calls(s: Step) -> set[str]:
    """The functions a step calls."""
    return {x.function for e in _expressions(s) for x in walk(e) if isinstance(x, Call)}


def writes(s: Step) -> set[str]:
    """Names that later statements can see, and this one changes."""
    made = declared(s) if isinstance(s, Declare | Reduce) else set()
    return made | (assigned(s) - inside(s))


class Planner:
    """Builds the stages of one variant; `levels` are those of parameters, scalars and built-in indices."""

    def __init__(self, kernel: str, levels: Mapping[str, int], outputs: Sequence[str], axis: int) -> None:
        self.kernel, self.levels, self.outputs, self.axis = kernel, dict(levels), list(outputs), axis
        self.given = dict(levels)
        self.count = 0

    def refuse(self, node: Node, cure: str) -> NoReturn:
        raise KernelError(self.kernel, f"line {node.line}", node.token, cure)

    def plan(self, statements: Sequence[Statement]) -> Stages:
        steps = [step for s in statements for step in self.hoist(s)]
        self.find_levels(steps)
        stages = self.schedule(steps)
        self.carry(stages)
        return stages

    # -- reductions get names ----------------------------------------------------------------------------

    def hoist(self, s: Statement) -> list[Step]:
        """The statement with its reductions as steps of their own before it."""
        if isinstance(s, If | Block):
            for e in _expressions(s):
                for x in walk(e):
                    if is_reduction(x):
                        self.refuse(x, "stands inside a block: reduce before it, into a local")
            return [s]
        found: list[Step] = []
        value = self.replace(s.value, found)
        return [*found, dataclasses.replace(s, value=value)]

    def replace(self, e: Expr, found: list[Step]) -> Expr:
        match e:
            case Call() if is_reduction(e):
                inner = self.replace(e.arguments[0], found)
                self.count += 1
                name = f"r{self.count}_"
                found.append(Reduce(e.line, e.token, name, e.function, inner))
                return Name(e.line, e.token, name)
            case Call():
                return dataclasses.replace(e, arguments=tuple(self.replace(a, found) for a in e.arguments))
            case Unary() | Cast():
                return dataclasses.replace(e, a=self.replace(e.a, found))
            case Binary():
                return dataclasses.replace(e, a=self.replace(e.a, found), b=self.replace(e.b, found))
            case Ternary():
                for x in (*walk(e.a), *walk(e.b)):
                    if is_reduction(x):
                        self.refuse(x, "stands in one side of a ?: : reduce before it, into a local")
                return dataclasses.replace(e, condition=self.replace(e.condition, found))
            case Index():
                return dataclasses.replace(e, index=self.replace(e.index, found))
        return e

    # -- levels ------------------------------------------------------------------------------------------

    def level_of(self, e: Expr) -> int:
        names = (x.name for x in walk(e) if isinstance(x, Name))
        return max((self.levels.get(name, UNIFORM) for name in names), default=UNIFORM)

    def raise_levels(self, s: Step, floor: int) -> None:
        match s:
            case Reduce():
                self.levels[s.name] = LINE
            case Declare() | Assign():
                level = max(floor, self.level_of(s.value), self.levels.get(s.name, UNIFORM))
                if level > self.given.get(s.name, ELEMENT):
                    line = "row" if self.axis == -1 else "column"
                    self.refuse(s, f"holds one value a {line}, but this differs along it: reduce it first")
                self.levels[s.name] = level
            case If():
                floor = max(floor, self.level_of(s.condition))
                for inner in (*s.then, *s.otherwise):
                    self.raise_levels(inner, floor)
            case Block():
                for inner in s.body:
                    self.raise_levels(inner, floor)

    def find_levels(self, steps: Sequence[Step]) -> None:
        """Levels only rise, so going through the text until none does settles them."""
        before: dict[str, int] = {}
        while before != self.levels:
            before = dict(self.levels)
            for s in steps:
                self.raise_levels(s, UNIFORM)

    def level(self, s: Step) -> int:
        if isinstance(s, Reduce):
            return ELEMENT
        names = writes(s) | inside(s)
        level = max((self.levels.get(name, UNIFORM) for name in names), default=UNIFORM)
        return max([level, *(self.level_of(e) for e in _expressions(s))])

    # -- passes ------------------------------------------------------------------------------------------

    def schedule(self, steps: Sequence[Step]) -> Stages:
        """Every step goes to the earliest place that keeps the meaning of the order they are written in."""
        passes: list[Pass] = []
        between: list[list[Statement]] = [[]]
        ready: dict[str, int] = {}  # line-level name -> the place in `between` from which on it is known
        looked_at: dict[str, int] = {}  # line-level name -> the last place in `between` that reads it
        seen_by_elements: set[str] = set()
        current = 0
        for s in steps:
            place = max((ready.get(name, 0) for name in reads(s)), default=0)
            if self.level(s) == ELEMENT:
                current = max(current, place)
                while len(passes) <= current:
                    passes.append(Pass())
                    between.append([])
                passes[current].steps.append(s)
                seen_by_elements |= reads(s)
                if isinstance(s, Reduce):
                    ready[s.name] = current + 1
                continue
            for name in writes(s):
                if name in seen_by_elements:
                    self.refuse(s, "was read by the elements before; give the new value another name")
                place = max(place, ready.get(name, 0), looked_at.get(name, 0))
            between[place].append(s)  # type: ignore[arg-type]
            ready |= dict.fromkeys(writes(s), place)
            for name in reads(s):
                looked_at[name] = max(place, looked_at.get(name, 0))
        return Stages(list(steps), self.levels, between, passes)

    def carry(self, stages: Stages) -> None:
        """Find what each pass needs from those before it. The last one stores all outputs of elements."""
        earlier: list[Statement] = []
        for k, p in enumerate(stages.passes):
            made = {name for s in earlier for name in writes(s)}
            wanted = {name for s in p.steps for name in reads(s) | assigned(s)}
            if k == len(stages.passes) - 1:
                wanted |= set(self.outputs)
            wanted &= made
            p.needs = sorted(wanted)
            again: list[Statement] = []
            for s in reversed(earlier):
                if writes(s) & wanted:
                    again.insert(0, s)
                    wanted |= reads(s)
            p.again = again
            earlier += [s for s in p.steps if not isinstance(s, Reduce)]
