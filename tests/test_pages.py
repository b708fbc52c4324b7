"""What the pages for readers say is there: paths, links, commands, options, names, and code that runs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from test_layout import ROOT

import kernels
import minigrad as mg
from minigrad import optim
from models.configuration import runs

PAGES = {  # page -> the folder whose files it calls by their short names
    "README.md": ".",
    "docs/articles.md": ".",
    "docs/optimizers.md": "minigrad/optim",
    "benchmarks/NOTES.md": "benchmarks",
    "minigrad/data/README.md": "minigrad/data",
}
NAMESPACE = {"mg": mg, "minigrad": mg, "optim": optim, "kernels": kernels}
FILE = re.compile(r"(?<![\w./-])(?:[\w-]+/)*[\w-]+\.(?:py|h|md|npz|gz|json|png)\b")
FOLDER = re.compile(r"[\w-]+(?:/[\w-]+)*/")
COMMAND = re.compile(r"(?:make|python|\.venv/bin/python|[\w/]+\.py) ")


def text_of(page: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.M | re.S)


def quoted(page: str) -> list[str]:
    """What stands between backticks on one line, or over the end of one."""
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", text_of(page))]


def commands(page: str) -> list[list[str]]:
    """The words of each command of a page: of a line that is set in, or between backticks."""
    lines = [line.strip() for line in text_of(page).splitlines() if line.startswith("    ")]
    found = [
        shlex.split(re.sub(r"   .*", "", line)) for line in (*lines, *quoted(page)) if COMMAND.match(line)
    ]
    return [["python", *words] if words[0].endswith(".py") else words for words in found]


def program(page: str, words: list[str]) -> Path:
    """The file that `python FILE` or `python -m MODULE` runs."""
    if words[1] != "-m":
        return next(path for place in (".", PAGES[page]) if (path := ROOT / place / words[1]).exists())
    path = ROOT.joinpath(*words[2].split("."))
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_folder_that_a_page_names_is_there(page):
    named = set(FILE.findall(re.sub(r"\[[^]]*\]\(", "(", text_of(page))))  # not what a link is called
    named |= {name for name in quoted(page) if FOLDER.fullmatch(name) and page == "README.md"}
    assert named
    places = ROOT, ROOT / PAGES[page]
    assert sorted(name for name in named if not any((place / name).exists() for place in places)) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", text_of(page))
    assert page != "README.md" or links
    assert [link for link in links if not ((ROOT / page).parent / link.partition("#")[0]).exists()] == []


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_every_make_command_is_understood():
    makefile = (ROOT / "Makefile").read_text()
    asked = [words for words in commands("README.md") if words[0] == "make"]
    assert len(asked) > 4
    for words in asked:
        for variable in (word.partition("=")[0] for word in words[1:] if "=" in word):
            assert f"$({variable})" in makefile, f"{' '.join(words)}: the Makefile has no {variable}"
        told = subprocess.run(
            [*words, "-n", "NOVENV=1", f"PYTHON={sys.executable}"],
            cwd=ROOT,
            env={
                k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "ARGS")
            },  # make test's
            capture_output=True,
            text=True,
        )
        assert told.returncode == 0, told.stderr
        for line in told.stdout.splitlines():
            if " train.py " in line:
                runs([*shlex.split(line.partition(" train.py ")[2]), "--device", "cpu"])


def test_every_training_command_is_understood():
    asked = [words for page in PAGES for words in commands(page) if words[1:2] == ["train.py"]]
    asked = [words for words in asked if "--help" not in words]
    assert len(asked) > 3
    for words in asked:
        assert runs([*words[2:], "--device", "cpu"])


@pytest.mark.parametrize("page", PAGES)
def test_every_program_has_the_options_that_are_shown(page):
    for words in commands(page):
        if words[0] == "make" or words[1:2] == ["train.py"]:
            continue
        source = program(page, words).read_text()
        for option in (word for word in words if word.startswith("--")):
            assert f'"{option}"' in source, f"{' '.join(words)}: no {option}"


def test_every_option_that_is_explained_is_one_of_train_py(capsys):
    with pytest.raises(SystemExit):
        runs(["--help"])
    known = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
    explained = {name.split()[0] for name in quoted("README.md") if name.startswith("--")}
    assert len(explained) > 15
    assert sorted(explained - known) == []


def test_every_name_of_the_library_is_there():
    found = 0
    for name in quoted("README.md"):
        match = re.match(rf"(?:{'|'.join(NAMESPACE)})(?:\.[A-Za-z_]\w*)+(?=$|\()", name)
        if match and not FILE.fullmatch(name):
            first, *rest = match.group().split(".")
            value = NAMESPACE[first]
            for part in rest:
                value = getattr(value, part)
            found += 1
    assert found > 8


def test_every_variable_of_the_environment_is_read():
    sources = "".join(
        path.read_text() for top in ("kernels", "minigrad") for path in (ROOT / top).rglob("*.py")
    )
    named = set(re.findall(r"MINIGRAD_[A-Z]+", (ROOT / "README.md").read_text()))
    assert named and sorted(name for name in named if f'"{name}"' not in sources) == []


def test_every_extra_is_declared():
    requirements = (ROOT / "README.md").read_text().partition("## Requirements")[2]
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"`(?:minigrad\[)?(\w+)\]?`", requirements)
    assert len(named) > 4 and sorted(set(named) - set(declared)) == []


def test_the_code_of_the_readme_runs(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.M | re.S)
    assert len(blocks) >= 3
    g, p, s = np.float32([3, -1]), np.ones(2, np.float32), np.zeros(2, np.float32)
    scope = {"g": g, "p": p, "s": s}
    for block in blocks:
        exec(block, scope)
    assert s.tolist() == [9, 1] and p == pytest.approx([0.99, 1.01])  # Adagrad's first step is lr
    assert scope["h"].tolist() == [6, 12]  # 6 x
