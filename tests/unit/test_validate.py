"""`deliv validate`: what a deployment asks before it puts a file in place."""

from __future__ import annotations

from pathlib import Path

import pytest

from deliv import cli

CONFIG = Path(__file__).parents[2] / "config"


@pytest.mark.parametrize(
    ("kind", "name"), [("config", "deliv.example.yaml"), ("policy", "policy.example.yaml")]
)
def test_a_good_file_is_silently_fine(
    kind: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["validate", kind, str(CONFIG / name)]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_good_lsc_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "voms.example.org.lsc"
    file.write_text("/O=Grid/CN=voms.example.org\n/O=Grid/CN=CA\n")
    assert cli.main(["validate", "lsc", str(file)]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["config", "policy", "lsc"])
def test_a_bad_one_is_named_with_its_fault(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "some.yaml"
    assert cli.main(["validate", kind, str(file)]) == 1
    assert capsys.readouterr().err == f"deliv: {file}: No such file or directory\n"
    file.write_text("colour: green\n")
    assert cli.main(["validate", kind, str(file)]) == 1
    said = capsys.readouterr().err
    assert str(file) in said
    assert ("colour" if kind != "lsc" else "expected the names of a server") in said
