"""The C++ of a rows kernel: its stages as loops, one pass after the other.

    axis=-1, for each row:  between[0];  for j: pass 0, into 16 lanes;  r1_ = fold(lanes);  between[1];  ...
    axis=0, for 256 columns at once: the same with a small array for each value of a column, rows outermost

What an element made in an earlier pass is made again when that is cheap; if it called a function like exp it
is kept in a buffer as long as the row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from kernels import c_text
from kernels.compiled import ENTRY, HERE, letter_types, pointer
from kernels.dtypes import C_NAME, concrete
from kernels.kernel import Variant
from kernels.signature import Parameter
from kernels.stages import ELEMENT, LINE, Pass, Reduce, assigned, calls, reads, writes
from kernels.tree import Declare, Statement

if TYPE_CHECKING:
    from kernels.rows import Rows

CHEAP = {
    "abs",
    "fabs",
    "min",
    "max",
    "fmin",
    "fmax",
    "floor",
    "ceil",
    "round",
    "isnan",
    "isinf",
    "isfinite",
    "sqrt",
}
START = {"sum": "0", "max": "-__builtin_inf()", "min": "__builtin_inf()"}
_JOIN = {"sum": "{to} += {value};", "max": "{to} = max({to}, {value});", "min": "{to} = min({to}, {value});"}


def join(op: str, to: str, value: str) -> str:
    """Adds a value to a partial sum, or to a partial maximum."""
    return _JOIN[op].format(to=to, value=value)


class Writer:
    """What the generators of both axes and of CUDA need to know of a variant."""

    def __init__(self, variant: Variant, letters: Mapping[str, str], names: Mapping[str, str]) -> None:
        kernel: Rows = variant.kernel  # type: ignore[assignment]
        self.variant, self.letters, self.names = variant, letters, names
        self.axis, self.stages = kernel.axis, kernel.stages(variant)
        self.types = self.stages.types(variant.scope(letters))
        self.matrices = [p for p in variant.parameters if p.kind == "array"]
        along = "row" if self.axis == -1 else "col"
        self.lines = [p for p in variant.parameters if p.kind == along]
        self.across = [p for p in variant.parameters if p.kind in ("row", "col") and p.kind != along]
        self.local = [
            s.name
            for s in self.stages.steps
            if isinstance(s, Declare | Reduce) and self.stages.levels[s.name] <= LINE
        ]  # values of a line that the steps make

    def c(self, name: str) -> str:
        """The C type of a name."""
        return self.names[self.types[name]]

    def scalars(self) -> str:
        all_scalars = enumerate(self.variant.kernel.scalars)
        return " ".join(f"const T {s} = hp[{k}];" for k, s in all_scalars if s in self.variant.scalars)

    def located(self, steps: Sequence[Statement]) -> str:
        """Statements, each with the place in the Python file that a compiler's message should name."""
        kernel = self.variant.kernel
        lines = []
        for s in steps:
            lines.append(f'#line {kernel.line + s.line - 1} "{kernel.file}"\n{c_text.statement(s)}\n')
        return "\n" + "".join(lines) + '#line 1 "generated"\n' if lines else ""

    def element_loads(self, p: Pass, last: bool, at: Mapping[str, str]) -> str:
        """The inputs of the elements that a pass reads, and its outputs, as locals. `at`: their places."""
        names = {name for s in (*p.steps, *p.again) for name in reads(s) | assigned(s)}
        names |= {q.name for q in self.matrices if q.output} if last else set()
        found = []
        for q in (*self.matrices, *self.across):
            if q.name not in names:
                continue
            if not q.output:
                found.append(f"const {self.c(q.name)} {q.name} = {at[q.name]};")
            elif q.name in self.variant.loaded:
                found.append(f"{self.c(q.name)} {q.name} = {at[q.name]};")
            else:
                found.append(f"{self.c(q.name)} {q.name};")
        return " ".join(found)

    def element_stores(self, last: bool, at: Mapping[str, str]) -> str:
        return " ".join(f"{at[q.name]} = {q.name};" for q in self.matrices if q.output and last)

    def steps(self, p: Pass, add: Callable[[Reduce, str], str]) -> str:
        """The steps of a pass; `add` writes how a reduction takes a value in."""
        found = []
        for s in p.steps:
            if isinstance(s, Reduce):
                found.append(add(s, f"{self.c(s.name)}({c_text.expression(s.value)})") + "\n")
            else:
                found.append(self.located([s]))
        return "".join(found)


def rows_source(variant: Variant, letters: Mapping[str, str]) -> str:
    """The C++ of one rows kernel for one choice of types."""
    w = Writer(variant, letters, C_NAME)
    params = variant.parameters
    part = {"array": "MATRIX", "row": "ROW", "col": "COLUMN", "raw": "RAW"}
    sizes = [f"sizeof({C_NAME[concrete(p.type, letters)]})" for p in params]
    picks = any(r.op != "sum" for p in w.stages.passes for r in p.reductions)
    return f"""{(HERE / "preamble.h").read_text()}
{(HERE / "rows.h").read_text()}
namespace minigrad {{
namespace {{
{letter_types(letters)}
struct element {{
    typedef {C_NAME[letters["T"]]} T;
    enum {{ arrays = {len(params)}, scalars = {variant.wants}, axis = {w.axis}, picks = {int(picks)} }};
    static constexpr Part parts[] = {{{", ".join(part[p.kind] for p in params)}}};
    static constexpr bool outputs[] = {{{", ".join(str(int(p.output)) for p in params)}}};
    static constexpr int64 sizes[] = {{{", ".join(sizes)}}};
    static constexpr int where[] = {{{", ".join(map(str, variant.positions))}}};
    static void run(char* const* _p, const T* hp, int64 _from, int64 _to, const int64 n, const int64 rows) {{
        {" ".join(pointer(p, letters, k) for k, p in enumerate(params))}
        {w.scalars()}
        {_rows(w) if w.axis == -1 else _columns(w)}
    }}
}};
}}
}}
{ENTRY}"""


def _kept(w: Writer) -> list[str]:
    """Names of elements that are kept from pass to pass, because making them again would cost a function."""
    found: set[str] = set()
    for p in w.stages.passes:
        if any(calls(s) - CHEAP for s in p.again):
            found |= set(p.needs)
    return sorted(found)


def _rows(w: Writer) -> str:
    kept = _kept(w)
    head = [f"char* const _room = (char*)malloc({len(kept)} * 8 * n);"] if kept else []
    head += [f"{w.c(k)}* const _kept_{k} = ({w.c(k)}*)(_room + {m} * 8 * n);" for m, k in enumerate(kept)]
    body = [
        f"{'' if q.output else 'const '}{w.c(q.name)}* const _row_{q.name} = {q.name}_ + i * n;"
        for q in w.matrices
    ]
    for q in w.lines:
        body.append(_line_load(w, q, f"{q.name}_[i]"))
    at = {q.name: f"_row_{q.name}[j]" for q in w.matrices} | {q.name: f"{q.name}_[j]" for q in w.across}
    body.append(w.located(w.stages.between[0]))
    for k, p in enumerate(w.stages.passes):
        body.append(_row_pass(w, k, p, kept, at))
        body.append(w.located(w.stages.between[k + 1]))
    body += [f"{q.name}_[i] = {q.name};" for q in w.lines if q.output]
    free = "free(_room);" if kept else ""
    return "\n".join([*head, "for (int64 i = _from; i < _to; i++) {", *body, "}", free])


def _line_load(w: Writer, q: Parameter, place: str) -> str:
    if not q.output:
        return f"const {w.c(q.name)} {q.name} = {place};"
    return f"{w.c(q.name)} {q.name} = {place};" if q.name in w.variant.loaded else f"{w.c(q.name)} {q.name};"


def _row_pass(w: Writer, k: int, p: Pass, kept: Sequence[str], at: Mapping[str, str]) -> str:
    last = k == len(w.stages.passes) - 1
    found = p.reductions
    lines = []
    for r in found:
        lines.append(f"alignas(64) {w.c(r.name)} _{r.name}lane[minigrad::LANES];")
        lines.append(f"for (int _l = 0; _l < minigrad::LANES; _l++) _{r.name}lane[_l] = {START[r.op]};")
        if r.op != "sum":
            lines.append(f"alignas(64) int32 _{r.name}nan[minigrad::LANES] = {{}};")
    if set(p.needs) <= set(kept):
        declared = {q.name for q in w.matrices if q.output}
        body = [w.element_loads(Pass(p.steps), last, at)]
        body += [f"{'' if v in declared else w.c(v)} {v} = _kept_{v}[j];" for v in p.needs]
    else:
        body = [w.element_loads(p, last, at), w.located(p.again)]
    body.append(w.steps(p, _into_lane))
    made = {name for s in p.steps for name in writes(s)}
    body += [f"_kept_{name}[j] = {name};" for name in kept if name in made and not last]
    body.append(w.element_stores(last, at))
    lines.append("minigrad::along(n, [&](const int64 j, const int _l) ALWAYS_INLINE {")
    lines += [*body, "});"]
    for r in found:
        nan = "" if r.op == "sum" else f", _{r.name}nan"
        lines.append(f"const {w.c(r.name)} {r.name} = minigrad::fold_{r.op}(_{r.name}lane{nan});")
    return "\n".join(lines)


def _into_lane(r: Reduce, value: str) -> str:
    if r.op == "sum":
        return f"_{r.name}lane[_l] += {value};"
    return f"minigrad::keep_{r.op}(_{r.name}lane[_l], _{r.name}nan[_l], {value});"


def _columns(w: Writer) -> str:
    """Up to 256 columns at once: a value of a column is an array `_at_name`, _c the column's place in it."""
    values = [*w.local, *(q.name for q in w.lines if q.output)]
    body = [f"alignas(64) {w.c(v)} _at_{v}[minigrad::WIDTH];" for v in values]
    read = [q.name for q in w.lines if q.output and q.name in w.variant.loaded]
    body += [f"for (int64 _c = 0; _c < _width; _c++) _at_{q}[_c] = {q}_[_start + _c];" for q in read]
    body.append(_column_values(w, w.stages.between[0]))
    for k, p in enumerate(w.stages.passes):
        body.append(_column_pass(w, k, p))
        body.append(_column_values(w, w.stages.between[k + 1]))
    body += [
        f"for (int64 _c = 0; _c < _width; _c++) {q.name}_[_start + _c] = _at_{q.name}[_c];"
        for q in w.lines
        if q.output
    ]
    return "\n".join(
        [
            "for (int64 _start = _from; _start < _to; _start += minigrad::WIDTH) {",
            "const int64 _width = _to - _start < minigrad::WIDTH ? _to - _start : (int64)minigrad::WIDTH;",
            *body,
            "}",
        ]
    )


def _value_loads(w: Writer, names: set[str]) -> str:
    """The values of column j that some statements use, as locals."""
    found = [f"{w.c(v)} {v} = _at_{v}[_c];" for v in w.local if v in names]
    for q in w.lines:
        if q.name in names:
            found.append(
                f"{w.c(q.name)} {q.name} = _at_{q.name}[_c];" if q.output
                else f"const {w.c(q.name)} {q.name} = {q.name}_[j];"
            )  # fmt: skip
    return " ".join(found)


def _column_values(w: Writer, steps: Sequence[Statement]) -> str:
    """Statements of the column, for every column of the block."""
    if not steps:
        return ""
    fresh = {s.name for s in steps if isinstance(s, Declare)}
    names = {name for s in steps for name in reads(s) | assigned(s)} - fresh
    changed = sorted({name for s in steps for name in writes(s)})
    stores = " ".join(f"_at_{v}[_c] = {v};" for v in changed)
    return (
        "for (int64 _c = 0; _c < _width; _c++) { const int64 j = _start + _c;\n"
        f"{_value_loads(w, names)} {w.located(steps)} {stores} }}"
    )


def _column_pass(w: Writer, k: int, p: Pass) -> str:
    last = k == len(w.stages.passes) - 1
    found = p.reductions
    at = {q.name: f"{q.name}_[i * n + j]" for q in w.matrices} | {q.name: f"{q.name}_[i]" for q in w.across}
    names = {name for s in (*p.steps, *p.again) for name in reads(s)}
    lines = [f"alignas(64) {w.c(r.name)} _{r.name}part[minigrad::WIDTH];" for r in found]
    every = "for (int64 _c = 0; _c < _width; _c++)"
    lines += [f"{every} _at_{r.name}[_c] = {START[r.op]};" for r in found]
    lines.append("for (int64 _chunk = 0; _chunk < rows; _chunk += minigrad::CHUNK) {")
    lines += [f"{every} _{r.name}part[_c] = {START[r.op]};" for r in found]
    lines += [
        "for (int64 i = _chunk; i < rows && i < _chunk + minigrad::CHUNK; i++) {",
        "#pragma omp simd",
        every + " { const int64 j = _start + _c;",
        _value_loads(w, {v for v in names if w.stages.levels.get(v, 0) < ELEMENT}),
        w.element_loads(p, last, at),
        w.located(p.again),
        w.steps(p, lambda r, value: join(r.op, f"_{r.name}part[_c]", value)),
        w.element_stores(last, at),
        "} }",
    ]
    lines += [f"{every} {join(r.op, f'_at_{r.name}[_c]', f'_{r.name}part[_c]')}" for r in found]
    lines.append("}")
    lines += [f"{every} _at_{r.name}[_c] += {w.c(r.name)}(0);" for r in found if r.op != "sum"]
    return "\n".join(lines)
