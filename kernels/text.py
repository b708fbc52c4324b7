"""Reading a kernel text: flags, tokens, and the accepted subset of C as a small tree.

A text is the body of a loop over elements, in C:

    T d = T(g) + weight_decay * T(p);     declaration, always with a value
    s = s + d * d;                        assignment to a local or to an output
    if (d > T(0)) { p = d; } else p = T(0);
    #if amsgrad                           lines kept or dropped by a flag of the call
    #endif

Expressions are C's without pointers and side effects: `?:`, `|| && !`, comparisons, `+ - * / %`,
`<< >> & | ^ ~`, calls of known functions, casts written as calls `T(x)`, and `seg[i]` on parameters that
are declared `raw`. A decimal number stands only inside a cast, `T(0.5)`, because a bare `0.5` is a double
and would silently turn a float kernel into a double one. There are no loops: the text is one element's.

What the names mean and which types may meet is checked in `check.py`; this file knows grammar only.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import NoReturn

from kernels.dtypes import CONCRETE
from kernels.errors import KernelError
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
)

_CONDITION = re.compile(r"\s*#\s*(if|elif|else|endif)\b\s*(!?)\s*(\w*)\s*(?://.*)?$")


def resolve_flags(kernel: str, text: str, known: Collection[str], chosen: Collection[str]) -> str:
    """The text with its `#if FLAG` lines decided; dropped lines stay as empty ones, so lines keep numbers."""
    lines: list[str] = []
    stack: list[tuple[int, bool, bool]] = []  # line of the #if, is this branch taken, was one
    for number, line in enumerate(text.split("\n"), 1):
        if not line.lstrip().startswith("#"):
            lines.append(line if all(taken for _, taken, _ in stack) else "")
            continue
        lines.append("")
        match = _CONDITION.match(line)
        if not match:
            cure = "only #if FLAG, #if !FLAG, #elif FLAG, #else and #endif are understood"
            raise KernelError(kernel, f"line {number}", line.strip(), cure)
        word, negated, flag = match.groups()
        if word in ("if", "elif") and flag not in known:
            cure = f"is no flag of this kernel; its flags are: {' '.join(known) or 'none'}"
            raise KernelError(kernel, f"line {number}", flag or line.strip(), cure)
        if word != "if" and not stack:
            raise KernelError(kernel, f"line {number}", line.strip(), "stands without an #if before it")
        holds = word == "else" or (flag in chosen) != bool(negated)
        if word == "if":
            stack.append((number, holds, holds))
        elif word == "endif":
            stack.pop()
        else:
            start, _, done = stack.pop()
            stack.append((start, holds and not done, holds or done))
    if stack:
        raise KernelError(kernel, f"line {stack[-1][0]}", "#if", "has no #endif")
    return "\n".join(lines)


_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+|//[^\n]*|/\*.*?\*/)
      | (?P<decimal>(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?[fFlL]?|\d+[eE][+-]?\d+[fFlL]?)
      | (?P<integer>0[xX][0-9a-fA-F]+[uU]?|\d+[uU]?)(?![\w.])
      | (?P<name>[A-Za-z_]\w*)
      | (?P<sign><<|>>|<=|>=|==|!=|&&|\|\||\+\+|--|->|[-+*/]=|[-+*/%<>=!&|^~?:;,(){}\[\].])
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(slots=True, eq=False, repr=False)
class Token:
    kind: str
    text: str
    line: int


def tokens(kernel: str, text: str) -> list[Token]:
    """The tokens of a text, comments and space left out, closed by an `end` token."""
    found, at, line = [], 0, 1
    for match in _TOKEN.finditer(text):
        if match.start() != at:
            break
        at, kind, word = match.end(), match.lastgroup, match.group()
        if kind == "space":
            line += word.count("\n")
        else:
            found.append(Token(str(kind), word, line))
    if at != len(text):
        raise KernelError(kernel, f"line {line}", text[at : at + 12].split("\n")[0], "is not in the language")
    return [*found, Token("end", "end of text", line)]


_WORDS = {
    "for": "loops",
    "while": "loops",
    "do": "loops",
    "goto": "jumps",
    "return": "jumps",
    "break": "jumps",
}
_WORDS |= {
    "continue": "jumps",
    "switch": "switch",
    "struct": "structures",
    "sizeof": "sizeof",
    "static": "static",
}
_NATIVE = {"float": "float32 or T", "double": "float64 or T", "half": "S", "char": "int8", "short": "int32"}
_LEVELS = "|| ; && ; | ; ^ ; & ; == != ; < <= > >= ; << >> ; + - ; * / %"  # from loose to tight
_LEVEL = {op: k for k, ops in enumerate(_LEVELS.split(";"), 1) for op in ops.split()}


class Parser:
    """Recursive descent over the tokens of one resolved text."""

    def __init__(self, kernel: str, text: str, letters: Collection[str]) -> None:
        self.kernel, self.tokens, self.at = kernel, tokens(kernel, text), 0
        self.types = {*letters, *CONCRETE, "int"} - {"float16", "bfloat16"}

    def refuse(self, token: Token | Node, cure: str) -> NoReturn:
        name = token.text if isinstance(token, Token) else token.token
        raise KernelError(self.kernel, f"line {token.line}", name, cure)

    @property
    def next(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def accept(self, *texts: str) -> Token | None:
        return self.take() if self.next.text in texts and self.next.kind != "end" else None

    def expect(self, text: str) -> Token:
        token = self.accept(text)
        if token is None:
            self.refuse(self.next, f"expected {text!r} here")
        return token

    def program(self) -> tuple[Statement, ...]:
        statements: list[Statement] = []
        while self.next.kind != "end":
            statements += self.statement()
        return tuple(statements)

    def statement(self) -> list[Statement]:
        token = self.next
        if token.text in _WORDS:
            self.refuse(
                token, f"{_WORDS[token.text]} are not part of the language: the text is one element's"
            )
        if token.text in _NATIVE:
            self.refuse(token, f"is not a type here: write {_NATIVE[token.text]}")
        if self.accept(";"):
            return []
        if self.accept("{"):
            inner: list[Statement] = []
            while not self.accept("}"):
                if self.next.kind == "end":
                    self.refuse(token, "this block is never closed: expected '}'")
                inner += self.statement()
            return [Block(token.line, token.text, tuple(inner))]
        if self.accept("if"):
            self.expect("(")
            condition = self.expression()
            self.expect(")")
            then = self.statement()
            otherwise = self.statement() if self.accept("else") else []
            return [If(token.line, token.text, condition, tuple(then), tuple(otherwise))]
        if token.text == "const" or token.text in self.types or token.text in ("unsigned", "long"):
            return self.declarations()
        return [self.assignment()]

    def type_name(self) -> str:
        token = self.take()
        words = [token.text]
        if token.text in ("unsigned", "long"):
            while self.next.text in ("int", "long"):
                words.append(self.take().text)
        name = " ".join(words)
        if name not in self.types and name not in (
            "unsigned",
            "unsigned int",
            "long long",
            "unsigned long long",
        ):
            self.refuse(token, "is not a type of the language")
        return name

    def declarations(self) -> list[Statement]:
        constant = self.accept("const") is not None
        kind = self.type_name()
        found: list[Statement] = []
        while True:
            if self.next.text in ("*", "&"):
                self.refuse(self.next, "pointers and references are not part of the language")
            name = self.take()
            if name.kind != "name":
                self.refuse(name, "expected the name of the new variable")
            if not self.accept("="):
                self.refuse(self.next, f"declare {name.text!r} with its value: {kind} {name.text} = ...;")
            found.append(Declare(name.line, name.text, kind, name.text, self.expression(), constant))
            if not self.accept(","):
                self.expect(";")
                return found

    def assignment(self) -> Statement:
        name = self.take()
        if name.text in ("*", "&", "++", "--") or self.next.text in ("++", "--", "->", "."):
            self.refuse(name, "pointers, members, ++ and -- are not part of the language")
        if name.kind != "name":
            self.refuse(name, "expected a statement")
        if self.next.text == "[":
            self.refuse(name, "a raw parameter is read only; assign to an output by its name")
        if self.next.text == "(":
            self.refuse(name, "a call is not a statement; assign its value to something")
        op = self.accept("=", "+=", "-=", "*=", "/=")
        if op is None:
            self.refuse(self.next, f"expected = after {name.text!r}")
        value = self.expression()
        self.expect(";")
        return Assign(name.line, name.text, name.text, op.text[:-1], value)

    def expression(self) -> Expr:
        condition = self.binary(0)
        mark = self.accept("?")
        if mark is None:
            return condition
        a = self.expression()
        self.expect(":")
        return Ternary(mark.line, "?", condition, a, self.expression())

    def binary(self, floor: int) -> Expr:
        """Operators above a level, by climbing: a tighter one on the right takes its operands first."""
        left = self.unary()
        while (level := _LEVEL.get(self.next.text, 0)) > floor and self.next.kind == "sign":
            op = self.take()
            left = Binary(op.line, op.text, op.text, left, self.binary(level))
        return left

    def unary(self) -> Expr:
        if op := self.accept("-", "+", "!", "~"):
            return Unary(op.line, op.text, op.text, self.unary())
        return self.primary()

    def primary(self) -> Expr:
        token = self.take()
        if token.kind == "integer":
            digits = token.text.rstrip("uU")
            value = int(digits, 16 if digits[:2] in ("0x", "0X") else 10)
            return Integer(token.line, token.text, value, digits != token.text)
        if token.kind == "decimal":
            self.refuse(token, f"bare decimal: write T({token.text.rstrip('fFlL')})")
        if token.text == "(":
            if self.next.text in self.types and self.tokens[self.at + 1].text == ")":
                self.refuse(self.next, f"write the cast as a call: {self.next.text}(x)")
            inner = self.expression()
            self.expect(")")
            return inner
        if token.kind != "name":
            self.refuse(token, "expected a value here")
        if token.text in self.types:
            return self.cast(token)
        if self.accept("("):
            return Call(token.line, token.text, token.text, self.arguments())
        if self.accept("["):
            index = self.expression()
            self.expect("]")
            return Index(token.line, token.text, token.text, index)
        if token.text.startswith("atomic"):
            self.refuse(token, "atomics are not part of the language: the same seed must give the same bits")
        return Name(token.line, token.text, token.text)

    def arguments(self) -> tuple[Expr, ...]:
        found = [self.expression()]
        while self.accept(","):
            found.append(self.expression())
        self.expect(")")
        return tuple(found)

    def cast(self, token: Token) -> Expr:
        if not self.accept("("):
            self.refuse(token, f"is a type; a cast is written {token.text}(x)")
        start = self.at
        sign = -1.0 if self.accept("-") else 1.0
        if self.next.kind == "decimal" and self.tokens[self.at + 1].text == ")":
            number = self.take()
            if number.text[-1] in "fFlL":
                self.refuse(number, f"write the number without its suffix: {token.text}({number.text[:-1]})")
            inner: Expr = Decimal(number.line, number.text, sign * float(number.text))
        else:
            self.at = start
            inner = self.expression()
        self.expect(")")
        return Cast(token.line, token.text, token.text, inner)


def parse(kernel: str, text: str, letters: Collection[str]) -> tuple[Statement, ...]:
    """The statements of a resolved text; raises KernelError at the first thing outside the language."""
    return Parser(kernel, text, letters).program()
