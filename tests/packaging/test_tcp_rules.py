"""The table of rules in docs/explanation/tcp-rules.md: each test that it names exists and runs."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "tcp-rules.md"
ROW = re.compile(r"^\| .+ \| (\d{3,4}[^|]*) \| `([^`]+)`, `(\w+)` \|$", re.MULTILINE)


def rows() -> list[tuple[str, str, str]]:
    """Return RFCs, file and test of each row."""
    _, rules = PAGE.read_text(encoding="utf-8").split("## Rules, and the test for each\n")
    found: list[tuple[str, str, str]] = ROW.findall(rules)
    lines = [line for line in rules.splitlines() if line.startswith("| ") and not line.startswith("| rule ")]
    assert len(found) == len(lines), "a row has another form"
    return found


def test_each_rule_has_a_test_that_runs() -> None:
    assert len(rows()) > 40
    for _, file, name in rows():
        text = (ROOT / file).read_text(encoding="utf-8")
        if file.endswith(".c"):
            assert re.search(rf"^static void {name}\(", text, re.MULTILINE), (file, name)
            assert re.search(rf"\b(RUN|TEST)\({name}\w*\)", text), (file, name)
        else:
            assert re.search(rf"^def {name}\(", text, re.MULTILINE), (file, name)
