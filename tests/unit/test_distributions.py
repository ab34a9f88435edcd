"""The two distributions: the service's wheel, and the local stack's, which brings a command."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import metadata
from importlib.metadata import EntryPoints, distributions
from pathlib import Path

import pytest

from deliv import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each distribution's wheel, built from its folder and unpacked, by the distribution's name."""
    places = {}
    for name, folder in {"deliv": ROOT, "deliv_testbed": ROOT / "testbed"}.items():
        wheels = tmp_path_factory.mktemp(f"{name}-wheel")
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels]
        subprocess.run(build, cwd=folder, check=True, capture_output=True, timeout=60)
        (wheel,) = wheels.iterdir()
        places[name] = tmp_path_factory.mktemp(name)
        zipfile.ZipFile(wheel).extractall(places[name])
    return places


def files(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}


def offered(paths: Sequence[Path], monkeypatch: pytest.MonkeyPatch) -> str:
    """The text of `deliv --help` where these are the installed distributions."""

    def entry_points(group: str) -> EntryPoints:
        found = distributions(path=[str(path) for path in paths])
        return EntryPoints(point for one in found for point in one.entry_points.select(group=group))

    output = io.StringIO()
    monkeypatch.setattr(metadata, "entry_points", entry_points)
    with redirect_stdout(output), pytest.raises(SystemExit):
        cli.main(["--help"])
    return output.getvalue()


def test_the_services_wheel_has_nothing_of_the_local_stack(installed: dict[str, Path]) -> None:
    own = files(installed["deliv"])
    assert {"deliv/cli.py", "deliv/store/sql/0001_initial.sql"} <= own
    assert {name.partition("/")[0].partition("-")[0] for name in own} == {"deliv"}
    stack = {Path(name).name for name in files(installed["deliv_testbed"])}
    for word in ("testbed", "dummy", "pki", "products", "synthetic", "issuer/", "demo"):
        assert not [name for name in own if word in name], word
    assert {"pki.py", "products.py", "synthetic.py", "accounts.sql"} <= stack


@pytest.mark.parametrize("name", ["deliv", "deliv_testbed"])
def test_each_carries_the_licence(installed: dict[str, Path], name: str) -> None:
    (licence,) = installed[name].glob("*.dist-info/licenses/LICENSE")
    assert licence.read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_command_is_offered_where_the_local_stack_is_installed(
    installed: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "testbed" not in offered([installed["deliv"]], monkeypatch)
    assert "testbed" in offered([*installed.values()], monkeypatch)


def test_the_local_stacks_wheel_is_whole(installed: dict[str, Path], tmp_path: Path) -> None:
    path = os.pathsep.join(map(str, installed.values()))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "deliv.cli", "testbed", "up", "--help"],
        env={"PYTHONPATH": path, "PATH": os.environ["PATH"]},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--fts-servers" in done.stdout
