"""docs/articles.md and the tests of its findings, tests/test_articles_*.py, tell the same.

The findings are about four well-known articles: a textbook chapter (T), a guide to update rules (G), a
tutorial with code (C), an encyclopedia's entry (E). Their code stands in the tests in short form, as they
print it.
"""

import re

from test_layout import ROOT

PAGE = (ROOT / "docs" / "articles.md").read_text()


def defined(pattern: str) -> set[str]:
    """The tests in the files of this folder that fit a pattern."""
    texts = [path.read_text() for path in (ROOT / "tests").glob(pattern)]
    return {name for text in texts for name in re.findall(r"^def (test_\w+)", text, flags=re.M)}


def test_every_test_that_the_page_names_exists():
    named = set(re.findall(r"\btest_\w+\b(?!\*?\.py)", PAGE))
    assert len(named) > 40 and named <= defined("test_*.py"), named - defined("test_*.py")


def test_the_page_tells_every_finding_and_every_finding_has_its_test():
    assert defined("test_articles_*.py") <= set(re.findall(r"\btest_\w+", PAGE))
    findings = PAGE.split("## Matters of record")[0].split("\n- ")[1:]
    assert findings and all(re.search(r"`test_\w+`", finding) for finding in findings)
