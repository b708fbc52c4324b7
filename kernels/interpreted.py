"""The machine that always works: the same text, read as NumPy expressions.

The tree of a text is turned once into a Python function of whole blocks:

    T d = T(g) + weight_decay * T(p);     d = np.add(g, np.multiply(weight_decay, p))
    if (d > T(0)) s = d;                  m1 = np.greater(d, k0);  s = np.where(m1, d, s)

An `if` becomes a mask, and every assignment below it a selection. Each conversion that C makes is written
out, so NumPy's own promotion rules never decide anything; a 16-bit float is carried as the float32 of the
same value. Temporaries of one expression are reused (`out=`), and long arrays go through in blocks that stay
in cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.check import Scope
from kernels.dtypes import HALVES, concrete, is_float, numpy_dtype, promoted
from kernels.functions import FUNCTIONS
from kernels.kernel import Variant
from kernels.text import (
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

BLOCK = 16384

_UFUNC = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "&": "bitwise_and", "|": "bitwise_or"}
_UFUNC |= {"^": "bitwise_xor", "<<": "left_shift", ">>": "right_shift", "==": "equal", "!=": "not_equal"}
_UFUNC |= {"<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal", "&&": "logical_and"}
_UFUNC |= {"||": "logical_or"}
_REUSES = ("sqrt", "exp", "log", "tanh", "floor", "ceil", "round", "fabs")


@dataclass(frozen=True, slots=True)
class Value:
    """Python code for a value: its type in C, and whether its array is a temporary nobody else holds."""

    code: str
    type: str
    fresh: bool
    varies: bool  # an array over the block, not one number


def carried(t: str) -> str:
    """The dtype a value of type t is carried in: 16-bit floats travel as float32."""
    return "float32" if t in HALVES else t


def round_to(t: str) -> Callable[[Any], Any]:
    """Rounds float32 values to the 16-bit float t, and gives them back as float32."""
    dtype = numpy_dtype(t)
    return lambda x: x.astype(dtype).astype(np.float32)


class Translator:
    """Writes the Python of one variant for one choice of types."""

    def __init__(self, scope: Scope, uniform: set[str]) -> None:
        self.scope, self.uniform = scope, set(uniform)
        self.owned: set[str] = set()  # names that hold an array of their own, not a view of an argument
        self.lines: list[str] = []
        self.names: dict[str, Any] = {"np": np}  # what the generated code refers to
        self.count = 0

    # -- statements ------------------------------------------------------------------------------------

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
                inverse = Value(f"np.logical_not({condition.code})", "bool", True, condition.varies)
                self.block(s.then, self.named("m", self.both(mask, condition)))
                if s.otherwise:
                    self.block(s.otherwise, self.named("m", self.both(mask, inverse)))

    def bind(self, name: str, value: Value) -> None:
        (self.uniform.discard if value.varies else self.uniform.add)(name)
        (self.owned.add if value.fresh else self.owned.discard)(name)
        self.lines.append(f"{name} = {value.code}")

    def named(self, letter: str, value: Value) -> Value:
        """The value under a name of its own, so that it is computed once."""
        if value.code.isidentifier():
            return value
        self.count += 1
        name = f"{letter}{self.count}_"
        self.lines.append(f"{name} = {value.code}")
        return Value(name, value.type, False, value.varies)

    def assign(self, s: Assign, mask: Value | None) -> None:
        t = self.scope.types[s.name]
        expression = s.value
        if s.op:
            expression = Binary(s.line, s.token, s.op, Name(s.line, s.name, s.name), s.value)
        value = self.convert(self.expression(expression, mask), t)
        if mask is not None:
            varies = mask.varies or value.varies or s.name not in self.uniform
            value = Value(f"np.where({mask.code}, {value.code}, {s.name})", t, True, varies)
        self.bind(s.name, value)

    # -- expressions -----------------------------------------------------------------------------------

    def constant(self, value: Any, t: str) -> Value:
        for name, known in self.names.items():
            if name.startswith("k_") and type(known) is type(value) and repr(known) == repr(value):
                return Value(name, t, False, False)
        name = f"k_{len(self.names)}"
        self.names[name] = value
        return Value(name, t, False, False)

    def convert(self, v: Value, t: str) -> Value:
        """The value as type t: the conversion C makes in an assignment, a cast or an operation."""
        if v.type == t:
            return v
        code, have = v.code, carried(v.type)
        if t == "bool":
            return Value(f"np.not_equal({code}, 0)", t, True, v.varies)
        if carried(t) != have:
            code = f"{code}.astype(np.{carried(t)})"
        if t in HALVES:
            self.names[f"to_{t}_"] = round_to(t)
            code = f"to_{t}_({code})"
        return Value(code, t, code != v.code or v.fresh, v.varies)

    def expression(self, e: Expr, mask: Value | None) -> Value:
        """Code for an expression; `mask` says for which elements its value can matter."""
        match e:
            case Integer():
                t = self.scope.type_of(e)
                return self.constant(np.dtype(t).type(e.value), t)
            case Decimal():
                return self.constant(np.float64(e.value), "float64")
            case Name():
                return Value(e.name, self.scope.types[e.name], False, e.name not in self.uniform)
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
        return Value(code, t, at.varies, at.varies or (mask is not None and mask.varies))

    def cast(self, e: Cast, mask: Value | None) -> Value:
        t = concrete(e.type, self.scope.letters)
        v = self.expression(e.a, mask)
        if not v.varies and v.code.startswith("k_"):  # a number: round it now
            value = self.names[v.code]
            value = value != 0 if t == "bool" else value.astype(carried(t))
            return self.constant(round_to(t)(value) if t in HALVES else value, t)
        return self.convert(v, t)

    def apply(self, ufunc: str, operands: Sequence[Value], t: str) -> Value:
        """A ufunc call that writes into a temporary operand of the right dtype where there is one."""
        code = ", ".join(v.code for v in operands)
        varies = any(v.varies for v in operands)
        spare = next((v for v in operands if v.fresh and v.varies and carried(v.type) == carried(t)), None)
        if spare is not None and not spare.code.isidentifier():
            self.count += 1
            name = f"t{self.count}_"
            code = ", ".join(f"({name} := {v.code})" if v is spare else v.code for v in operands)
            return Value(f"{ufunc}({code}, out={name})", t, True, varies)
        return Value(f"{ufunc}({code})", t, True, varies)

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
            right = a if e.op == "&&" else Value(f"np.logical_not({a.code})", "bool", True, a.varies)
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
            return Value(f"{ufunc}({operands[0].code}, {operands[1].code})", t, True, a.varies or b.varies)
        return self.apply(f"np.{_UFUNC[e.op]}", operands, t)

    def meet(self, a: Expr, b: Expr) -> str:
        return self.scope.meet(a, a, b)

    def both(self, mask: Value | None, condition: Value) -> Value:
        if mask is None:
            return condition
        code = f"np.logical_and({mask.code}, {condition.code})"
        return Value(code, "bool", True, mask.varies or condition.varies)

    def ternary(self, e: Ternary, mask: Value | None) -> Value:
        t = self.scope.type_of(e)
        yes = self.named("c", self.expression(e.condition, mask))
        no = Value(f"np.logical_not({yes.code})", "bool", True, yes.varies)
        a = self.convert(self.expression(e.a, self.both(mask, yes)), t)
        b = self.convert(self.expression(e.b, self.both(mask, no)), t)
        return Value(f"np.where({yes.code}, {a.code}, {b.code})", t, True, yes.varies or a.varies or b.varies)

    def call(self, e: Call, mask: Value | None) -> Value:
        t = self.scope.type_of(e)
        function = FUNCTIONS[e.function]
        met = promoted(self.scope.type_of(e.arguments[0])) if function.arity == 1 else self.meet(*e.arguments)
        operands = [self.convert(self.expression(a, mask), met) for a in e.arguments]
        if e.function in _REUSES:
            return self.apply(f"np.{function.numpy.__name__}", operands, t)
        self.names[f"{e.function}_"] = function.numpy
        code = f"{e.function}_({', '.join(v.code for v in operands)})"
        return Value(code, t, True, any(v.varies for v in operands))


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


class Interpreted:
    """An elementwise variant as a Python function of blocks."""

    def __init__(self, variant: Variant, letters: Mapping[str, str]) -> None:
        scope = variant.scope(letters)
        translator = Translator(scope, set(variant.kernel.scalars) | {"n"})
        self.variant, self.indexed = variant, "i" in variant.used
        iterated = [p for p in variant.parameters if p.kind != "raw"]
        for p in iterated:
            if not p.output or p.name in variant.loaded:
                translator.lines.append(load(p.name, scope.types[p.name]))
        for s in variant.statements:
            translator.statement(s, None)
        for p in variant.outputs[1:]:  # a value that is a view must be kept before another output is written
            if p.name not in translator.owned:
                translator.lines.append(f"{p.name} = np.array({p.name})")
        for p in variant.outputs:
            translator.lines.append(f"np.copyto({p.name}_, {p.name}, casting='unsafe')")
        arguments = [p.name if p.kind == "raw" else f"{p.name}_" for p in variant.parameters]
        signature = ", ".join([*arguments, *variant.kernel.scalars, "i", "n"])
        self.function = compile_python("run_", signature, translator.lines, translator.names)

    def run(self, arrays: Sequence[np.ndarray], shape: tuple[int, ...], hp: np.ndarray | None) -> None:
        """Run over full-shape arrays (raw ones excepted); outputs are written in place."""
        kinds = [p.kind == "raw" for p in self.variant.parameters]
        scalars = () if hp is None else tuple(hp)
        n = int(np.prod(shape, dtype=np.int64))
        if n == 0:
            return
        flat = all(
            raw or (a.shape == shape and a.flags.c_contiguous) for a, raw in zip(arrays, kinds, strict=True)
        )
        if flat:
            views = [a if raw else a.reshape(-1) for a, raw in zip(arrays, kinds, strict=True)]
            step, rows, inner = BLOCK, n, 1
        else:
            views = []
            for a, raw in zip(arrays, kinds, strict=True):
                views.append(a if raw else np.broadcast_to(a, shape) if a.shape != shape else a)
            rows, inner = shape[0], n // shape[0]
            step = max(1, BLOCK // inner)
        with np.errstate(all="ignore"):
            for at in range(0, rows, step):
                block = [v if raw else v[at : at + step] for v, raw in zip(views, kinds, strict=True)]
                count = min(step, rows - at)
                i = None
                if self.indexed:
                    i = np.arange(at * inner, (at + count) * inner, dtype=np.int64)
                    i = i if flat else i.reshape(count, *shape[1:])
                self.function(*block, *scalars, i, np.int64(n))
