"""What the names of a text mean, and which types may meet: the checks that C would make, and some it would
not.

C lets an int slide into a float and a float into an int without a word; a kernel text must say it
(`T(i)`, `int32(x)`), because the conversion is where machines and readers differ. Integer division needs
a divisor that cannot be zero, a shift a count that is a literal: both would otherwise end a process, or
depend on the processor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from keyword import kwlist
from typing import NoReturn

from kernels.dtypes import HALVES, common, concrete, is_float, is_integer, promoted
from kernels.errors import KernelError
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
    Node,
    Statement,
    Ternary,
    Unary,
    walk,
)

REDUCTIONS = ("max", "min", "sum")  # with one argument, in a rows text

_RESERVED = """
alignas alignof and asm auto bitand bitor bool break case catch char class compl const constexpr continue
default delete do double else enum explicit extern false float for friend goto half bhalf if inline int
long mutable namespace new not operator or private protected public register return short signed sizeof
static struct switch template this throw true try typedef typename union unsigned using virtual void
volatile while xor int8 uint8 int32 uint32 int64 uint64 float16 bfloat16 float32 float64 hp
""".split()

# macros, words of CUDA and of newer C++: they would mean something else where a text stands
_GENERATED = """
ALWAYS_INLINE blockDim blockIdx gridDim threadIdx warpSize decltype nullptr noexcept thread_local
static_assert constinit consteval
""".split()


def is_literal(e: Expr) -> bool:
    return isinstance(e, Integer) or (isinstance(e, Unary) and e.op in "+-" and is_literal(e.a))


def usable_name(name: str) -> str | None:
    """Why a name cannot stand in C, or None when it can."""
    if name in _RESERVED or name in _GENERATED or name in kwlist:
        return "is a word of the language, or of C++, CUDA or Python, which a text becomes"
    if name.startswith("_") or name.endswith("_"):
        return "starts or ends with an underscore; the generated code keeps those names for itself"
    return None


class Scope:
    """The names visible at one point of a text, and the type of any expression of them."""

    def __init__(
        self,
        kernel: str,
        letters: Mapping[str, str],
        types: Mapping[str, str],
        raw: Mapping[str, str],
        rows: bool,
    ) -> None:
        self.kernel, self.letters, self.rows = kernel, letters, rows
        self.types = dict(types)  # name -> concrete type
        self.raw = dict(raw)

    def refuse(self, node: Node, cure: str) -> NoReturn:
        raise KernelError(self.kernel, f"line {node.line}", node.token, cure)

    def type_of(self, e: Expr) -> str:
        """The concrete type of an expression, by C's rules; refuses what C would convert silently."""
        match e:
            case Integer():
                return self._integer(e)
            case Decimal():
                if math.isinf(e.value):
                    self.refuse(e, "is larger than any number of 64 bits")
                return "float64"  # only ever inside a cast, which rounds it
            case Name():
                if e.name in self.raw:
                    self.refuse(e, f"is a raw parameter: write {e.name}[index]")
                if e.name not in self.types:
                    known = " ".join([*self.types, *self.raw])
                    self.refuse(e, f"is not defined here; the names in reach are: {known}")
                return self.types[e.name]
            case Index():
                if e.name not in self.raw:
                    self.refuse(e, f"only raw parameters take an index; declare it 'raw ... {e.name}'")
                if not is_integer(self.type_of(e.index)):
                    self.refuse(e, "the index must be an integer")
                return self.raw[e.name]
            case Cast():
                self.type_of(e.a)
                return concrete(e.type, self.letters)
            case Unary():
                return self._unary(e)
            case Binary():
                return self._binary(e)
            case Ternary():
                self.condition(e.condition)
                return self._branches(e)
            case Call():
                return self._call(e)

    def _integer(self, e: Integer) -> str:
        hexadecimal = e.token[:2] in ("0x", "0X")
        fits = ["uint32", "uint64"] if e.unsigned else ["int32", "int64"]
        if hexadecimal and not e.unsigned:
            fits = ["int32", "uint32", "int64", "uint64"]
        for t in fits:
            if e.value < 2 ** (int(t[-2:]) - (t[0] == "i")):
                return t
        self.refuse(e, "does not fit in 64 bits")

    def condition(self, e: Expr) -> None:
        if self.type_of(e) != "bool":
            self.refuse(e, "a condition must be a comparison or a bool: write x != T(0)")

    def _unary(self, e: Unary) -> str:
        t = self.type_of(e.a)
        if e.op == "!":
            self.condition(e.a)
            return "bool"
        if e.op == "~" and not is_integer(t):
            self.refuse(e, "bits can be inverted in integers only")
        return promoted(t)

    def meet(self, e: Node, a: Expr, b: Expr) -> str:
        """The type two operands are computed in; an int and a float meet only when the int is a literal."""
        s, t = self.type_of(a), self.type_of(b)
        if is_float(s) != is_float(t) and not is_literal(b if is_float(s) else a):
            self.refuse(e, f"mixes {s} and {t}: write the conversion, T(...) or int32(...)")
        return common(s, t)

    def _binary(self, e: Binary) -> str:
        if e.op in ("&&", "||"):
            self.condition(e.a)
            self.condition(e.b)
            return "bool"
        if e.op in ("==", "!=", "<", "<=", ">", ">="):
            self.meet(e, e.a, e.b)
            return "bool"
        if e.op in ("<<", ">>"):
            s = promoted(self.type_of(e.a))
            if not is_integer(s):
                self.refuse(e, "shifts are for integers")
            if not (isinstance(e.b, Integer) and e.b.value < int(s[-2:])):
                self.refuse(e, f"the count of a shift of {s} must be a literal below {s[-2:]}")
            return s
        t = self.meet(e, e.a, e.b)
        if e.op in "&|^%" and is_float(t):
            self.refuse(e, "is for integers only")
        if e.op in "/%" and is_integer(t):
            literal = isinstance(e.b, Integer) and e.b.value > 0
            if not literal and not (isinstance(e.b, Name) and e.b.name in ("n", "rows")):
                self.refuse(
                    e, "an integer divides only by a positive literal or n; write T(a) / T(b) for floats"
                )
        return t

    def _branches(self, e: Ternary) -> str:
        s, t = self.type_of(e.a), self.type_of(e.b)
        if s == t:
            return s
        if s in HALVES or t in HALVES:
            self.refuse(e, "the two sides differ in type: write T(...) on both")
        return self.meet(e, e.a, e.b)

    def _call(self, e: Call) -> str:
        name, types = e.function, [self.type_of(a) for a in e.arguments]
        if self.rows and len(types) == 1 and name in REDUCTIONS:
            if not is_float(types[0]):
                self.refuse(e, "reduces floats: write T(...) round an integer or a condition")
            return promoted(types[0])
        if name not in FUNCTIONS:
            known = " ".join(sorted(FUNCTIONS))
            self.refuse(e, f"is not a function of the language; it knows: {known}")
        function = FUNCTIONS[name]
        if len(types) != function.arity:
            self.refuse(e, f"takes {function.arity} argument{'s' * (function.arity > 1)}, not {len(types)}")
        if function.gives != "same" and not all(is_float(t) for t in types):
            self.refuse(e, "is for floats: write T(...) round an integer")
        t = promoted(types[0]) if len(types) == 1 else self.meet(e, *e.arguments)
        return "bool" if function.gives == "bool" else t

    def assignable(self, node: Node, t: str, value: Expr) -> None:
        """Refuse a value whose conversion to t should have been written."""
        s = self.type_of(value)
        if is_float(t) and not is_float(s) and not is_literal(value):
            self.refuse(node, f"is {t} but the value is {s}: write T(...)")
        if not is_float(t) and is_float(s):
            self.refuse(node, f"is {t} but the value is {s}: write the cast, int32(...) or a comparison")
        if t == "bool" and s != "bool":
            self.refuse(node, f"is bool but the value is {s}: write x != 0")


class Check:
    """Walks a text once: refuses what is wrong, and notes which names are read, written and read before."""

    def __init__(self, scope: Scope, outputs: set[str]) -> None:
        self.scope, self.outputs = scope, outputs
        self.fixed = set(scope.types) | set(scope.raw)
        self.constant: set[str] = set()
        self.used: set[str] = set()
        self.written: set[str] = set()
        self.loaded: set[str] = set()  # outputs whose old value matters

    def block(self, statements: tuple[Statement, ...], surely: set[str]) -> set[str]:
        """Check the statements; `surely` are the outputs certainly written before; gives those after."""
        outer, constant = dict(self.scope.types), set(self.constant)
        for s in statements:
            surely = self.statement(s, surely)
        self.scope.types, self.constant = outer, constant
        return surely

    def statement(self, s: Statement, surely: set[str]) -> set[str]:
        match s:
            case Block():
                return self.block(s.body, surely)
            case If():
                self.read(s.condition, surely)
                self.scope.condition(s.condition)
                return self.block(s.then, surely) & self.block(s.otherwise, surely)
            case Declare():
                self.read(s.value, surely)
                self.declare(s)
            case Assign():
                self.read(s.value, surely)
                self.assign(s, surely)
                if s.name in self.outputs:
                    return surely | {s.name}
        return surely

    def read(self, e: Expr, surely: set[str]) -> None:
        self.scope.type_of(e)
        names = {x.name for x in walk(e) if isinstance(x, Name | Index)}
        self.used |= names
        self.loaded |= (names & self.outputs) - surely

    def declare(self, s: Declare) -> None:
        scope = self.scope
        if s.name in self.fixed or s.name in scope.types:
            scope.refuse(s, "is already the name of something else here; choose another name")
        if s.name in FUNCTIONS or (scope.rows and s.name in REDUCTIONS) or s.name in scope.letters:
            scope.refuse(s, "is the name of a function or a type; choose another name")
        if why := usable_name(s.name):
            scope.refuse(s, f"{why}; choose another name")
        t = concrete(s.type, scope.letters)
        scope.assignable(s, t, s.value)
        scope.types[s.name] = t
        if s.constant:
            self.constant.add(s.name)

    def assign(self, s: Assign, surely: set[str]) -> None:
        scope = self.scope
        if s.name not in scope.types:
            scope.refuse(s, "is not defined here; declare it with its type first: T name = ...;")
        if s.name in self.fixed and s.name not in self.outputs:
            scope.refuse(s, "is an input; only outputs and locals can be assigned")
        if s.name in self.constant:
            scope.refuse(s, "is const; declare it without const to assign it again")
        t = scope.types[s.name]
        if s.op:
            if t in HALVES:
                scope.refuse(s, f"is stored in 16 bits: write {s.name} = T({s.name}) {s.op} ...")
            if t == "bool" or (s.op == "/" and not is_float(t)):
                scope.refuse(s, f"{s.op}= is for floats; write the expression out")
            scope.meet(s, Name(s.line, s.name, s.name), s.value)
            if s.name in self.outputs - surely:
                self.loaded.add(s.name)
        scope.assignable(s, t, s.value)
        self.used.add(s.name)
        self.written.add(s.name)
