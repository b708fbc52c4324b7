"""The table of benchmarks/gpu.py: what is measured is kept, and what may not be said is not said."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from headline import figures, report, run, table  # noqa: E402  benchmarks/ is no package
from headline.results import Results  # noqa: E402

MACHINE = dict(gpu="a GPU", driver="1")


# what may be said


def cell(who, us, kind="gpt4", row="H2", size=16, losses=(4.0, 3.0), **more):
    return dict(row=row, kind=kind, precision="tf32", size=size, contestant=who, losses=list(losses),
                times_us=[us] * 3, host_us=us, begin_s=1.0, why="", **more)  # fmt: skip


def results(*cells):
    found = Results(None, MACHINE)
    for c in cells:
        found.put(c)
    return found


def verdicts(*cells):
    return [line.split("**")[1] for line in figures.judged(results(*cells), "H2")]


def test_a_claim_is_met_missed_or_open():
    mine = cell(table.OURS, 100, ours_us=[100, 110])
    assert verdicts(mine) == ["not measured", "not measured"]
    assert verdicts(mine, cell(table.EAGER, 331, ours_us=[100, 110])) == ["met", "not measured"]
    # the slower of our two runs beside it speaks
    assert verdicts(mine, cell(table.EAGER, 329, ours_us=[100, 110])) == ["missed", "not measured"]
    eager, reduced = cell(table.EAGER, 400, ours_us=[100]), cell(table.REDUCED, 140, ours_us=[100])
    assert verdicts(mine, eager, reduced) == ["met", "missed"]


def test_a_claim_on_several_sizes_is_met_only_when_all_are_measured():
    first = [
        cell(who, us, "mlp", "H1", 128, ours_us=[10]) for who, us in ((table.OURS, 10), (table.EAGER, 50))
    ]
    assert "**met so far**" in figures.judged(results(*first), "H1")[0]


@pytest.mark.parametrize("why", ["losses", "nan", "eagerly"])
def test_a_time_that_does_not_count_is_no_part_of_a_ratio(why):
    mine, eager = cell(table.OURS, 100, ours_us=[100]), cell(table.EAGER, 400, ours_us=[100])
    if why == "losses":
        mine["losses"] = [4.0, 3.004]
    elif why == "nan":
        mine["losses"] = [4.0, float("nan")]
    else:
        mine["why"] = "a hook of Linear"
    assert verdicts(mine, eager)[0] == "not measured"
    text = report.markdown(results(mine, eager))
    assert ("**does not count**" in text) == (why != "eagerly")
    assert "x as fast as torch eager;" not in text


def test_the_table_has_every_contestant_won_lost_or_failed():
    failed = {
        k: v for k, v in cell("jax", 0).items() if k in ("row", "kind", "precision", "size", "contestant")
    }
    failed["error"] = "out of memory | of all"
    there = [cell(table.OURS, 100, ours_us=[100, 105]), cell(table.EAGER, 50, ours_us=[100, 105]),
             cell("torch compiled graph", 42, ours_us=[100]), failed]  # fmt: skip
    text = report.markdown(results(*there))
    assert all(f"\n| {who} |" in text for who in table.SMALL)
    assert "| 100.0 and 105.0 |" in text
    assert (
        "is 0.48 x as fast as torch eager; 0.42 x as fast as the strongest PyTorch configuration, torch c"
        in text
    )
    assert "did not run: out of memory / of all" in text and "| torch graph | not measured" in text
    widths = {
        line.count("|") for line in text.splitlines() if line.startswith("|") and "us a step" not in line
    }
    assert len(widths) == 1


@pytest.mark.parametrize(("theirs", "said"), [((20, 11, 9, 8), "<= 256"), ((9, 20, 20, 20), "none"),
                                              ((20, 20, 20, 20), "<= 1024")])  # fmt: skip
def test_the_largest_batch_at_which_ours_is_faster_is_said(theirs, said):
    group = table.GROUPS[0]
    there = [cell(who, us, "mlp", "H1", n, ours_us=[10]) for n, t in zip(group.sizes, theirs, strict=True)
             for who, us in ((table.OURS, 10), (table.EAGER, t))]  # fmt: skip
    (line, _) = figures.faster(results(*there), group)
    assert line.startswith("In tf32 minigrad graph is faster than torch eager at ") and said in line
    assert figures.faster(results(*there[:-1]), group) == []


def test_rates_are_shares_of_the_copy_beside_them():
    def rule(name, us, **more):
        return dict(row="H5", kind="optimizers", precision="fp32", size=table.PARAMETERS, contestant=name,
                    ms={table.OURS: us / 1e3, "fused": us / 1e3}, moved=28, elements=10**6, copy=1000.0,
                    differ=[], why={}) | more  # fmt: skip

    there = [rule("Adam", 28.0), rule("AdamW", 40.0), rule("Lion", 28.0, differ=["fused"]),
             rule("MirrorDescent", 28.0, moved=None)]  # fmt: skip
    found = figures.measured(results(*there), table.CLAIMS[-1])
    assert found == {"Adam": 1.0, "AdamW": pytest.approx(0.7), "Lion": None}
    assert "**missed**" in figures.judged(results(*there), "H5")[0]
    assert "| Adam | 28 | 1000 | 1000 (28) | 100 % |" in report.markdown(results(*there))


# what is measured, and kept


def options(**more):
    return SimpleNamespace(**dict(again=False, contestants=None, steps=2, dry=True, minutes=None) | more)


class Recorded(run.Run):
    """Notes the contestants, and runs none."""

    def child(self, arguments, expected):
        self.asked = [*getattr(self, "asked", []), arguments[0]]
        if arguments[0] == "jax":
            return iter([{"error": "no jax"}] * expected)
        return iter([dict(losses=[4.0, 3.0], times_us=[1.0], host_us=1.0, begin_s=1.0, why="")] * expected)


def test_ours_runs_before_and_after_and_only_what_is_missing_runs_again(tmp_path):
    place = tmp_path / "gpu.json"
    first = Recorded(Results(place, MACHINE), options())
    first.row("H2")
    assert first.asked == [*table.SMALL, table.OURS]
    kept = Results(place, MACHINE)
    assert kept.get("H2", "gpt4", "tf32", 16, "torch graph")["ours_us"] == [1.0, 1.0]
    assert (tmp_path / "gpu.md").read_text() == report.markdown(kept)
    second = Recorded(kept, options())
    second.row("H2")
    assert not hasattr(second, "asked")
    del kept.cells["H2", "gpt4", "tf32", 16, "torch graph"]
    third = Recorded(kept, options())
    third.row("H2")
    assert third.asked == [table.OURS, "torch graph", table.OURS]
    elsewhere = Results(place, MACHINE | dict(gpu="another GPU"))
    assert (elsewhere.cells, elsewhere.other) == ({}, "a GPU with driver 1")


def test_nothing_is_begun_that_is_not_likely_to_end():
    none = Recorded(Results(None, MACHINE), options(minutes=0.1))
    for row in table.ROWS:
        none.row(row)
    assert not hasattr(none, "asked") and len(none.left_out) == len(table.GROUPS) + 1
    some = Recorded(Results(None, MACHINE), options(minutes=0.8))  # time for the quick ones only
    some.row("H2")
    assert some.asked == [
        table.OURS,
        table.EAGER,
        "torch graph",
        "minigrad eager",
        "minigrad naive",
        table.OURS,
    ]
    assert some.left_out == [f"H2 gpt4 tf32: {who}" for who in (table.REDUCED, "torch compiled graph", "jax",
                                                                "torch compile")]  # fmt: skip


def test_what_a_process_has_said_counts_when_its_time_runs_out(tmp_path, monkeypatch):
    script = tmp_path / "slow.py"
    script.write_text(
        'import time\nprint("noise")\nprint(\'{"times_us": [1.0]}\', flush=True)\ntime.sleep(60)\n'
    )
    monkeypatch.setattr(run, "SCRIPT", script)
    late = run.Run(Results(None, MACHINE), options(minutes=3 / 60))
    assert list(late.child(["jax"], 2)) == [{"times_us": [1.0]}, {"error": "not done when the time ran out"}]
    script.write_text("raise ValueError('no such GPU')\n")
    assert list(run.Run(Results(None, MACHINE), options()).child(["jax"], 1)) == [
        {"error": "ValueError: no such GPU"}
    ]
