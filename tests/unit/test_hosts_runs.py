"""A run of test hosts is found again by its name, with the same hosts at the same addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.hosts import lifecycle, runs
from tools.hosts.errors import HostsError


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> runs.Run:
    monkeypatch.setattr(runs, "CACHE", tmp_path)
    return runs.Run(
        name="a-run", number=7, suite="trixie", managed=("data", "deliv"), clients=("client",)
    )


def test_every_host_has_an_address_and_a_namespace_of_its_own(run: runs.Run) -> None:
    assert run.subnet == "10.77.7.0/24"
    assert [(host.name, host.address, host.namespace) for host in run.hosts] == [
        ("data", "10.77.7.11", "deliv7-data"),
        ("deliv", "10.77.7.12", "deliv7-deliv"),
        ("client", "10.77.7.13", "deliv7-client"),
    ]
    assert [host.managed for host in run.hosts] == [True, True, False]


def test_what_is_saved_is_loaded(run: runs.Run) -> None:
    run.directory.mkdir(parents=True)
    run.save()
    assert runs.exists("a-run")
    assert runs.load("a-run") == run


def test_an_unknown_run_and_an_unknown_host_are_named(run: runs.Run) -> None:
    with pytest.raises(HostsError, match="no run other"):
        runs.load("other")
    with pytest.raises(HostsError, match="no host stager"):
        run.host("stager")


@pytest.mark.parametrize(
    "names", [(), ("a", "a"), ("Upper",), ("bridge",), ("a" * 16,), ("-a",), ("a_b",)], ids=str
)
def test_names_that_no_host_can_have_are_refused_at_once(names: tuple[str, ...]) -> None:
    with pytest.raises(HostsError):
        lifecycle.up("never", "bookworm", names, ())
