"""The role release: only complete builds are used, side by side; the oldest are removed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from deploy import checkout
from deploy.booting import Boot
from deploy.fleet import Fleet
from deploy.roles import RolePlay

HOST = "bare"
OPT = PurePosixPath("/opt/deliv")


@dataclass
class Releases:
    """A host, and the checkout that releases on it are built from."""

    fleet: Fleet
    source: Path
    play: RolePlay

    def in_use(self) -> str:
        return self.resolve("current")

    def resolve(self, name: str) -> str:
        return self.run("readlink", "--canonicalize", f"{OPT}/{name}").strip()

    def names(self, directory: str = "") -> set[str]:
        return set(self.run("ls", f"{OPT}/{directory}").split())

    def deliv(self, *arguments: str) -> str:
        return self.run(f"{OPT}/current/bin/deliv", *arguments)

    def run(self, *command: str) -> str:
        return self.fleet.execute(HOST, *command).stdout


@pytest.fixture(scope="module")
def releases(
    boot: Boot, suite: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Releases]:
    """Converged, after a dry run on the bare host."""
    source = checkout.copy(tmp_path_factory.mktemp("source") / "checkout")
    with boot(suite, HOST) as fleet:
        play = RolePlay(
            fleet, tmp_path_factory.mktemp("release"), "release", groups={},
            variables={"release_checkout": str(source), "release_keep": 1},
        )  # fmt: skip
        play.dry_run()
        assert fleet.execute(HOST, "test", "-e", str(OPT), check=False).returncode == 1
        play.converge_idempotently()
        yield Releases(fleet, source, play)


def test_a_release_is_in_use(releases: Releases) -> None:
    version = checkout.version(releases.source)
    assert releases.deliv("--version") == f"deliv {version}\n"
    assert releases.resolve(version) == releases.in_use()
    assert PurePosixPath(releases.in_use()).name.startswith(f"{version}-")


def test_its_commands_stay_with_their_build(releases: Releases) -> None:
    """A process that was started from one build never reads files of the next."""
    where = "import sys; print(sys.prefix)"
    first_line = releases.run("head", "-1", f"{OPT}/current/bin/deliv")
    interpreter = first_line.removeprefix("#!").strip()
    assert releases.run(interpreter, "-c", where).strip() == releases.in_use()


def test_every_user_may_run_it_and_only_root_change_it(releases: Releases) -> None:
    others = ["(", "!", "-user", "root", "-o", "-perm", "/022", "-o", "!", "-perm", "-004", ")"]
    assert releases.run("find", str(OPT), "!", "-type", "l", *others) == ""
    releases.run("sudo", "-u", "nobody", f"{OPT}/current/bin/deliv", "serve", "--help")


def test_without_a_configuration_it_says_so(releases: Releases) -> None:
    for command in (["migrate"], ["serve", "--check"]):
        tried = releases.fleet.execute(HOST, f"{OPT}/current/bin/deliv", *command, check=False)
        assert (tried.returncode, tried.stdout) == (1, "")
        assert "/etc/deliv/deliv.yaml: No such file" in tried.stderr


def test_releases_change_and_change_back(suite: str, releases: Releases) -> None:
    if suite != "bookworm":
        pytest.skip("one Debian is enough for what does not depend on it")
    version, first = checkout.version(releases.source), releases.in_use()

    _develop(releases)
    second = releases.in_use()
    assert second != first
    assert releases.resolve(version) == second
    assert releases.names("builds") == {PurePosixPath(first).name, PurePosixPath(second).name}

    _break_off(releases, "99.1")
    releases.play.converge()
    assert releases.deliv("--version") == "deliv 99.1\n"
    assert releases.names() == {"builds", "current", version, "99.1"}
    kept = {PurePosixPath(path).name for path in (second, releases.in_use())}
    assert releases.names("builds") == kept  # not the first, nor what failed

    releases.play.vary(release_version=version)
    changed = releases.play.converge().changed
    linked, remembered, forgotten = (
        f"{HOST}: release : {task}"
        for task in (
            "Link current to the version",
            "Remember a version that was chosen",
            "Forget one that was chosen before",
        )
    )
    assert changed == [linked, remembered]
    assert releases.in_use() == second
    _refuse_unknown(releases)

    kept = releases.play.converge()  # with no version: the checkout has 99.1
    assert (kept.changed, releases.in_use()) == ([], second)
    assert f"{HOST} keeps release {version}" in kept.output
    releases.play.vary(release_latest=True)
    assert releases.play.converge().changed == [linked, forgotten]
    assert releases.deliv("--version") == "deliv 99.1\n"
    releases.play.vary(release_latest=False)
    assert releases.play.converge().changed == []
    assert releases.deliv("--version") == "deliv 99.1\n"


def _develop(releases: Releases) -> None:
    """The same version with other content, as a developer has it; and little of it, for speed."""
    requirements = releases.source / "requirements"
    shutil.copy(requirements / "client.txt", requirements / "server.txt")
    with (releases.source / "deliv" / "__init__.py").open("a") as file:
        file.write("\nCHANGED = True\n")
    releases.play.converge()


def _break_off(releases: Releases, version: str) -> None:
    """An installation that fails half way: the release before stays in use."""
    before = releases.in_use()
    checkout.set_version(releases.source, version)
    requirements = releases.source / "requirements" / "server.txt"
    good = requirements.read_text()
    requirements.write_text("nonsense==1 --hash=sha256:00\n")
    with pytest.raises(AssertionError, match="Install it"):
        releases.play.converge()
    requirements.write_text(good)
    assert releases.in_use() == before


def _refuse_unknown(releases: Releases) -> None:
    before = releases.in_use()
    releases.play.vary(release_version="98.0")
    with pytest.raises(AssertionError, match=r"has no release 98\.0"):
        releases.play.converge()
    releases.play.vary(release_version="")
    assert releases.in_use() == before
