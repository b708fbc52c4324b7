"""The tree a text is read into: expressions and statements, each with its line and token for messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True, eq=False, repr=False)
class Node:
    line: int
    token: str


@dataclass(slots=True, eq=False, repr=False)
class Integer(Node):
    value: int
    unsigned: bool


@dataclass(slots=True, eq=False, repr=False)
class Decimal(Node):
    value: float


@dataclass(slots=True, eq=False, repr=False)
class Name(Node):
    name: str


@dataclass(slots=True, eq=False, repr=False)
class Index(Node):
    name: str
    index: Expr


@dataclass(slots=True, eq=False, repr=False)
class Unary(Node):
    op: str
    a: Expr


@dataclass(slots=True, eq=False, repr=False)
class Binary(Node):
    op: str
    a: Expr
    b: Expr


@dataclass(slots=True, eq=False, repr=False)
class Ternary(Node):
    condition: Expr
    a: Expr
    b: Expr


@dataclass(slots=True, eq=False, repr=False)
class Call(Node):
    function: str
    arguments: tuple[Expr, ...]


@dataclass(slots=True, eq=False, repr=False)
class Cast(Node):
    type: str
    a: Expr


@dataclass(slots=True, eq=False, repr=False)
class Declare(Node):
    type: str
    name: str
    value: Expr
    constant: bool


@dataclass(slots=True, eq=False, repr=False)
class Assign(Node):
    name: str
    op: str  # "" for =, "+" for +=, and so on
    value: Expr


@dataclass(slots=True, eq=False, repr=False)
class If(Node):
    condition: Expr
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]


@dataclass(slots=True, eq=False, repr=False)
class Block(Node):
    body: tuple[Statement, ...]


Expr = Integer | Decimal | Name | Index | Unary | Binary | Ternary | Call | Cast
Statement = Declare | Assign | If | Block


def children(e: Expr) -> tuple[Expr, ...]:
    """The direct sub-expressions of an expression."""
    match e:
        case Index():
            return (e.index,)
        case Unary() | Cast():
            return (e.a,)
        case Binary():
            return (e.a, e.b)
        case Ternary():
            return (e.condition, e.a, e.b)
        case Call():
            return e.arguments
    return ()


def walk(e: Expr) -> Iterator[Expr]:
    """The expression and everything below it."""
    yield e
    for child in children(e):
        yield from walk(child)
