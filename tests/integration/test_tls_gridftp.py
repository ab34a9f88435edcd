"""deliv beside a real GridFTP server: the same credentials, and where the two disagree.

What Globus refuses, deliv refuses. deliv refuses more, each for a reason that is given here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from deliv_testbed import accounts, gridftp, pki, ports, processes
from support.credential_kinds import KINDS, Kind
from support.credentials import Grid
from support.stricter_than_globus import STRICTER

from integration import gsi


@dataclass(frozen=True, kw_only=True)
class Beside:
    grid: Grid
    port: int


@pytest.fixture(scope="module")
def beside() -> Iterator[Beside]:
    """A GridFTP server that trusts the grid's CAs. Without one: skip on a laptop, fail in CI."""
    if shutil.which("globus-gridftp-server", path=processes.PATH) is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no globus-gridftp-server")
    directory = Path(tempfile.mkdtemp(prefix="deliv-gsi-"))
    directory.chmod(0o755)
    account = accounts.unprivileged()
    running = processes.Processes(directory, account)
    grid = Grid.create(directory / "certificates")
    (port,) = ports.choose(1)
    server = gridftp.Server(
        name="gridftp",
        directory=directory / "gridftp",
        root=directory / "files",
        ca_directory=grid.directory,
        port=port,
        data_ports=ports.choose_block(10, taken=[port]),
    )
    try:
        server.install(grid.root, gridftp.grid_map([], account), account)
        running.start(server.program())
        yield Beside(grid=grid, port=port)
    finally:
        running.stop(server.name)
        shutil.rmtree(directory)


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if not kind.unloadable], ids=lambda kind: kind.name
)
def test_globus_takes_what_deliv_takes(beside: Beside, tmp_path: Path, kind: Kind) -> None:
    context, credential = gsi.lax_context(), kind.make(beside.grid)
    if credential is not None:
        pki.write(tmp_path / "credential", credential.proxy_pem(), mode=0o600)
        context.load_cert_chain(tmp_path / "credential")
    answer = gsi.login(beside.port, context)
    assert answer[0] in "25", answer
    assert answer.startswith("235") == (kind.accepted or kind.name in STRICTER), answer


def test_the_exceptions_are_kinds_that_deliv_refuses() -> None:
    refused = {kind.name for kind in KINDS if not kind.accepted}
    assert set(STRICTER) <= refused
