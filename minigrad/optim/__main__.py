"""The optimizers of this library, from their registry.

python -m minigrad.optim                  a table of all rules, in historical order
python -m minigrad.optim RMSprop Lion     all there is to say about these: formula, options, presets, text
python -m minigrad.optim --readme         README.md's table
python -m minigrad.optim --reference      docs/optimizers.md
"""

from __future__ import annotations

import inspect
import sys

from . import zoo
from .record import Record

HEAD = ("rule", "year", "kind", "state", "moved", "launches", "needs", "oracles")


def cells(record: Record) -> tuple[str, ...]:
    """A rule's line of the table: bytes of state and bytes moved a step are for a float32 parameter."""
    moved = "-" if record.moved_bytes is None else f"{record.moved_bytes}"
    needs = ", ".join(record.needs) or "gradient"
    oracles = ", ".join(("paper", *record.oracles))
    state = record.state or f"{record.state_bytes:.3g}"
    return record.name, str(record.year), record.kind, state, moved, record.launches, needs, oracles


def table() -> str:
    """All rules, in columns."""
    rows = [HEAD, *map(cells, zoo.values())]
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEAD))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def readme() -> str:
    """The same in Markdown, with the papers."""
    lines = [
        "| rule | source | kind | state, bytes a parameter | bytes moved | launches | proved against |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in zoo.values():
        name, year, kind, state, moved, launches, _, oracles = cells(r)
        source = r.paper.split(",")[0] if any(c.isdigit() for c in r.paper.split(",")[0]) else r.paper
        author = source.split(";")[0].split(",")[0]
        author = author if str(year) in author else f"{author} {year}"
        needs = f" ({', '.join(r.needs)})" if r.needs else ""
        lines.append(f"| `{name}` | {author} | {kind}{needs} | {state} | {moved} | {launches} | {oracles} |")
    return "\n".join(lines)


def page(record: Record) -> str:
    """All there is to say about a rule, in Markdown."""
    name, _, kind, state, moved, launches, needs, oracles = cells(record)
    signature = inspect.signature(record.cls.__init__)
    arguments = ", ".join(
        str(p.replace(annotation=inspect.Parameter.empty))
        for p in signature.parameters.values()
        if p.name != "self"
    )
    lines = [f"## {name}", "", f"    {name}({arguments})", "", inspect.cleandoc(record.cls.__doc__), ""]
    lines += [f"$${record.latex}$$", "", f"{record.paper}. {kind.capitalize()}; needs: {needs}.", ""]
    lines += [
        f"State {state} bytes a float32 parameter, {moved} bytes moved a step, launches a step: {launches}.",
        f"Proved against: {oracles} ({record.proof or 'tests/test_rules.py'}).",
    ]
    if record.presets:
        shown = "; ".join(
            f"`{source}` {', '.join(f'{k}={v!r}' for k, v in options.items()) or 'as the defaults'}"
            for source, options in record.presets.items()
        )
        lines += ["", f"Presets: {shown}."]
    for kernel in record.kernels:
        flags = f", flags: {' '.join(kernel.flags)}" if kernel.flags else ""
        body = inspect.cleandoc("\n" + kernel.body).strip()
        lines += ["", f"`{kernel.name}` (scalars: {' '.join(kernel.scalars) or 'none'}{flags})", ""]
        lines += ["```c", body, "```"]
    return "\n".join(lines)


def reference() -> str:
    """docs/optimizers.md."""
    head = (
        "# The optimizers\n\n"
        "Made by `python -m minigrad.optim --reference` from the registry, `optim.zoo`; a test compares.\n"
        "The text below each rule is the kernel that runs: on a GPU, on a CPU compiler, on NumPy.\n\n"
    )
    return head + "\n\n".join(map(page, zoo.values())) + "\n"


def main(arguments: list[str]) -> int:
    """Prints what is asked for; 2 for a name that is not there."""
    match arguments:
        case []:
            print(table())
        case ["--readme"]:
            print(readme())
        case ["--reference"]:
            print(reference(), end="")
        case ["-h" | "--help"]:
            print((__doc__ or "").strip())
        case names:
            known = {name.lower(): record for name, record in zoo.items()}
            for name in names:
                if name.lower() not in known:
                    print(f"no optimizer {name!r}; there are {', '.join(zoo)}", file=sys.stderr)
                    return 2
            print("\n\n".join(page(known[name.lower()]) for name in names))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
