"""The output of `python -m benchmarks`: JSON lines first, and the table at the end."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as program


def test_the_table_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "latest.jsonl"
    monkeypatch.setattr(program, "OUTPUT", output)  # those of a whole run stay
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick", "--only", "idle"])
    assert program.main() == 0
    printed = capsys.readouterr().out.splitlines()
    objects = [line for line in printed if line.startswith("{")]
    assert objects == output.read_text(encoding="utf-8").splitlines()
    circumstances, *measures = map(json.loads, objects)
    assert "wasmtime" in circumstances["circumstances"]
    assert {measure["group"] for measure in measures} == {"idle"}
    assert all(measure["value"] is not None for measure in measures)
    table = printed[len(objects) :]
    assert "figure" in table[2]
    assert "kernel" in table[2]
    rows = [line for line in table if line.startswith("idle: ")]
    assert [row.split("  ")[0] for row in rows] == [f"idle: {measure['name']}" for measure in measures]
    assert table[-1].startswith("Kernel: ")
