"""From a text's tree to Python: the NumPy expressions that mean what the C means.

    T d = T(g) + weight_decay * T(p);     d = np.add(g, np.multiply(weight_decay, p))
    if (d > T(0)) s = d;                  m1_ = np.greater(d, k_1);  s = np.where(m1_, d, s)

An `if` becomes a mask, and every assignment below it a selection. Each conversion that C makes is written
out, so NumPy's own promotion rules never decide anything; a 16-bit float is carried as the float32 of the
same value. Temporaries of one expression are reused (`out=`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.check import Scope
from kernels.dtypes import HALVES, concrete, is_float, numpy_dtype, promoted
from kernels.functions import FUNCTIONS
from kernels.tree import (
    Assign,
    Binary,
    Block,
    Call,
    Cast,
    Decimal,
    Declare,
    Expr,
    If,
    Index,
    Integer,
    Name,
    Statement,
    Ternary,
    Unary,
)

_UFUNC = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "&": "bitwise_and", "|": "bitwise_or"}
_UFUNC |= {"^": "bitwise_xor", "<<": "left_shift", ">>": "right_shift", "==": "equal", "!=": "not_equal"}
_UFUNC |= {"<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal", "&&": "logical_and"}
_UFUNC |= {"||": "logical_or"}
_REUSES = ("sqrt", "exp", "log", "tanh", "floor", "ceil", "round", "fabs")


UNIFORM, LINE, ELEMENT = 0, 1, 2  # one number; one for each row (or column); one for each element


@dataclass(frozen=True, slots=True)
class Value:
    """Python code for a value: its type in C, and whether its array is a temporary nobody else holds."""

    code: str
    type: str
    fresh: bool
    level: int  # how much of the block it fills: UNIFORM, LINE or ELEMENT


def carried(t: str) -> str:
    """The dtype a value of type t is carried in: 16-bit floats travel as float32."""
    return "float32" if t in HALVES else t


def round_to(t: str) -> Callable[[Any], Any]:
    """Rounds float32 values to the 16-bit float t, and gives them back as float32."""
    dtype = numpy_dtype(t)
    return lambda x: x.astype(dtype).astype(np.float32)


class Translator:
    """Writes the Python of one variant, for one choice of types. `levels`: of names that are not ELEMENT."""

    def __init__(self, scope: Scope, levels: Mapping[str, int]) -> None:
        self.scope, self.levels = scope, dict(levels)
        self.owned: set[str] = set()  # names that hold an array of their own, not a view of an argument
        self.lines: list[str] = []
        self.names: dict[str, Any] = {"np": np}  # what the generated code refers to
        self.count = 0

    # -- statements ------------------------------------------------------------------------------------

    def store(self, outputs: Sequence[str]) -> None:
        """Write the outputs; a value that is a view is kept before another output is written."""
        for name in outputs[1:]:
            if name not in self.owned:
                self.lines.append(f"{name} = np.array({name})")
        for name in outputs:
            self.lines.append(f"np.copyto({name}_, {name}, casting='unsafe')")

    def block(self, statements: Sequence[Statement], mask: Value | None) -> None:
        outer = dict(self.scope.types)
        for s in statements:
            self.statement(s, mask)
        self.scope.types = outer

    def statement(self, s: Statement, mask: Value | None) -> None:
        match s:
            case Block():
                self.block(s.body, mask)
            case Declare():
                t = concrete(s.type, self.scope.letters)
                value = self.convert(self.expression(s.value, mask), t)
                self.scope.types[s.name] = t
                self.bind(s.name, value)
            case Assign():
                self.assign(s, mask)
            case If():
                condition = self.named("c", self.expression(s.condition, mask))
                inverse = Value(f"np.logical_not({condition.code})", "bool", True, condition.level)
                self.block(s.then, self.named("m", self.both(mask, condition)))
                if s.otherwise:
                    self.block(s.otherwise, self.named("m", self.both(mask, inverse)))

    def bind(self, name: str, value: Value) -> None:
        self.levels[name] = value.level
        (self.owned.add if value.fresh else self.owned.discard)(name)
        self.lines.append(f"{name} = {value.code}")

    def named(self, letter: str, value: Value) -> Value:
        """The value under a name of its own, so that it is computed once."""
        if value.code.isidentifier():
            return value
        self.count += 1
        name = f"{letter}{self.count}_"
        self.lines.append(f"{name} = {value.code}")
        return Value(name, value.type, False, value.level)

    def assign(self, s: Assign, mask: Value | None) -> None:
        t = self.scope.types[s.name]
        expression = s.value
        if s.op:
            expression = Binary(s.line, s.token, s.op, Name(s.line, s.name, s.name), s.value)
        value = self.convert(self.expression(expression, mask), t)
        if mask is not None:
            level = max(mask.level, value.level, self.levels.get(s.name, ELEMENT))
            value = Value(f"np.where({mask.code}, {value.code}, {s.name})", t, True, level)
        self.bind(s.name, value)

    # -- expressions -----------------------------------------------------------------------------------

    def constant(self, value: Any, t: str) -> Value:
        for name, known in self.names.items():
            if name.startswith("k_") and type(known) is type(value) and repr(known) == repr(value):
                return Value(name, t, False, UNIFORM)
        name = f"k_{len(self.names)}"
        self.names[name] = value
        return Value(name, t, False, UNIFORM)

    def convert(self, v: Value, t: str) -> Value:
        """The value as type t: the conversion C makes in an assignment, a cast or an operation."""
        if v.type == t:
            return v
        code, have = v.code, carried(v.type)
        if t == "bool":
            return Value(f"np.not_equal({code}, 0)", t, True, v.level)
        if carried(t) != have:
            code = f"{code}.astype(np.{carried(t)})"
        if t in HALVES:
            self.names[f"to_{t}_"] = round_to(t)
            code = f"to_{t}_({code})"
        return Value(code, t, code != v.code or v.fresh, v.level)

    def expression(self, e: Expr, mask: Value | None) -> Value:
        """Code for an expression; `mask` says for which elements its value can matter."""
        match e:
            case Integer():
                t = self.scope.type_of(e)
                return self.constant(np.dtype(t).type(e.value), t)
            case Decimal():
                return self.constant(np.float64(e.value), "float64")
            case Name():
                return Value(e.name, self.scope.types[e.name], False, self.levels.get(e.name, ELEMENT))
            case Index():
                return self.index(e, mask)
            case Cast():
                return self.cast(e, mask)
            case Unary():
                return self.unary(e, mask)
            case Binary():
                return self.binary(e, mask)
            case Ternary():
                return self.ternary(e, mask)
            case Call():
                return self.call(e, mask)

    def index(self, e: Index, mask: Value | None) -> Value:
        at = self.expression(e.index, mask)
        t = self.scope.raw[e.name]
        code = at.code if mask is None else f"np.where({mask.code}, {at.code}, 0)"
        code = f"{e.name}[{code}]"
        if t in HALVES:
            code += ".astype(np.float32)"
        level = at.level if mask is None else max(at.level, mask.level)
        return Value(code, t, level > UNIFORM, level)

    def cast(self, e: Cast, mask: Value | None) -> Value:
        t = concrete(e.type, self.scope.letters)
        v = self.expression(e.a, mask)
        if v.level == UNIFORM and v.code.startswith("k_"):  # a number: round it now
            value = self.names[v.code]
            value = value != 0 if t == "bool" else value.astype(carried(t))
            return self.constant(round_to(t)(value) if t in HALVES else value, t)
        return self.convert(v, t)

    def apply(self, ufunc: str, operands: Sequence[Value], t: str) -> Value:
        """A ufunc call that writes into a temporary operand of the right dtype where there is one."""
        code = ", ".join(v.code for v in operands)
        level = max(v.level for v in operands)
        spares = (v for v in operands if v.fresh and v.level == level and carried(v.type) == carried(t))
        spare = next(spares, None) if level > UNIFORM else None
        if spare is not None and not spare.code.isidentifier():
            self.count += 1
            name = f"t{self.count}_"
            code = ", ".join(f"({name} := {v.code})" if v is spare else v.code for v in operands)
            return Value(f"{ufunc}({code}, out={name})", t, True, level)
        return Value(f"{ufunc}({code})", t, True, level)

    def unary(self, e: Unary, mask: Value | None) -> Value:
        t = self.scope.type_of(e)
        if e.op == "!":
            return self.apply("np.logical_not", [self.expression(e.a, mask)], t)
        v = self.convert(self.expression(e.a, mask), t)
        return v if e.op == "+" else self.apply("np.negative" if e.op == "-" else "np.invert", [v], t)

    def binary(self, e: Binary, mask: Value | None) -> Value:
        t = self.scope.type_of(e)
        a = self.expression(e.a, mask)
        if e.op in ("&&", "||"):
            a = self.named("c", a)
            right = a if e.op == "&&" else Value(f"np.logical_not({a.code})", "bool", True, a.level)
            return self.apply(f"np.{_UFUNC[e.op]}", [a, self.expression(e.b, self.both(mask, right))], t)
        b = self.expression(e.b, mask)
        if e.op in ("<<", ">>"):
            a = self.convert(a, t)
            return self.apply(f"np.{_UFUNC[e.op]}", [a, self.constant(self.names[b.code].astype(t), t)], t)
        met = self.meet(e.a, e.b)
        operands = [self.convert(a, met), self.convert(b, met)]
        if e.op in "/%" and not is_float(t):
            self.names["divide_"] = lambda x, y: (x - np.fmod(x, y)) // y  # towards zero, as C does
            ufunc = "divide_" if e.op == "/" else "np.fmod"
            return Value(f"{ufunc}({operands[0].code}, {operands[1].code})", t, True, max(a.level, b.level))
        return self.apply(f"np.{_UFUNC[e.op]}", operands, t)

    def meet(self, a: Expr, b: Expr) -> str:
        return self.scope.meet(a, a, b)

    def both(self, mask: Value | None, condition: Value) -> Value:
        if mask is None:
            return condition
        code = f"np.logical_and({mask.code}, {condition.code})"
        return Value(code, "bool", True, max(mask.level, condition.level))

    def ternary(self, e: Ternary, mask: Value | None) -> Value:
        t = self.scope.type_of(e)
        yes = self.named("c", self.expression(e.condition, mask))
        no = Value(f"np.logical_not({yes.code})", "bool", True, yes.level)
        a = self.convert(self.expression(e.a, self.both(mask, yes)), t)
        b = self.convert(self.expression(e.b, self.both(mask, no)), t)
        return Value(f"np.where({yes.code}, {a.code}, {b.code})", t, True, max(yes.level, a.level, b.level))

    def call(self, e: Call, mask: Value | None) -> Value:
        t = self.scope.type_of(e)
        function = FUNCTIONS[e.function]
        met = promoted(self.scope.type_of(e.arguments[0])) if function.arity == 1 else self.meet(*e.arguments)
        operands = [self.convert(self.expression(a, mask), met) for a in e.arguments]
        if e.function in _REUSES:
            return self.apply(f"np.{function.numpy.__name__}", operands, t)
        self.names[f"{e.function}_"] = function.numpy
        code = f"{e.function}_({', '.join(v.code for v in operands)})"
        return Value(code, t, True, max(v.level for v in operands))


def compile_python(
    name: str, signature: str, lines: Sequence[str], names: dict[str, Any]
) -> Callable[..., Any]:
    """A function from lines this package generated itself."""
    source = f"def {name}({signature}):\n" + "".join(f"    {line}\n" for line in lines)
    exec(compile(source, f"<numpy machine: {name}>", "exec"), names)
    function: Callable[..., Any] = names[name]
    return function


def load(name: str, t: str) -> str:
    return f"{name} = {name}_.astype(np.float32)" if t in HALVES else f"{name} = {name}_"
