"""From a text's tree back to C, for the generators that cannot paste the text as it stands."""

from __future__ import annotations

from collections.abc import Sequence

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


def expression(e: Expr) -> str:
    """The expression in C, with every order of evaluation in parentheses."""
    match e:
        case Integer():
            return e.token
        case Decimal():
            return repr(e.value)
        case Name():
            return e.name
        case Index():
            return f"{e.name}[{expression(e.index)}]"
        case Unary():
            return f"{e.op}({expression(e.a)})"
        case Cast():
            return f"{e.type}({expression(e.a)})"
        case Binary():
            return f"({expression(e.a)} {e.op} {expression(e.b)})"
        case Ternary():
            return f"({expression(e.condition)} ? {expression(e.a)} : {expression(e.b)})"
        case Call():
            return f"{e.function}({', '.join(expression(a) for a in e.arguments)})"


def statement(s: Statement) -> str:
    """One statement in C."""
    match s:
        case Declare():
            return f"{s.type} {s.name} = {expression(s.value)};"
        case Assign():
            return f"{s.name} {s.op}= {expression(s.value)};"
        case Block():
            return f"{{ {statements(s.body)} }}"
        case If():
            otherwise = f" else {{ {statements(s.otherwise)} }}" if s.otherwise else ""
            return f"if ({expression(s.condition)}) {{ {statements(s.then)} }}{otherwise}"


def statements(found: Sequence[Statement], separator: str = " ") -> str:
    return separator.join(statement(s) for s in found)
