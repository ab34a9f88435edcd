"""The repository's own rules, held by test."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
PACKAGE = sorted(file for top in ("deliv", "testbed") for file in (ROOT / top).rglob("*.py"))

# What imports a driver, and nothing else may.
HOMES = {
    "pika": ("deliv/gateways/broker",),
    "pycurl": ("deliv/gateways/https.py",),
    "pymysql": ("deliv/db",),
    "sqlite3": ("testbed",),
}
SQL = re.compile(
    r"\s*(SELECT\s.+\sFROM\s|SELECT\s+\w+\(|INSERT\s+(IGNORE\s+)?INTO\s|UPDATE\s+\w+\s+SET\s"
    r"|DELETE\s+FROM\s|(CREATE|ALTER|DROP)\s+(TABLE|TRIGGER|INDEX|DATABASE)\s)",
    re.DOTALL,
)
SQL_HOMES = ("deliv/store", "testbed")
PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{20,}")
# Hosts that only an installer's own settings may name, put together so as not to stand here.
REGISTRIES = re.compile(
    "|".join(
        re.escape(".".join(parts))
        for parts in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("registry", "npmjs", "org"),
            ("deb", "debian", "org"),
            ("security", "debian", "org"),
            ("proxy", "golang", "org"),
            ("galaxy", "ansible", "com"),
        )
    )
)


def tracked() -> list[Path]:
    command = ["git", "ls-files", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [file for file in files if file.is_file() and not file.is_symlink()]


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Every tracked text file, by its path in the repository."""
    contents = {name_of(file): file.read_bytes() for file in tracked()}
    return {
        name: content.decode("utf-8", "replace")
        for name, content in contents.items()
        if b"\0" not in content
    }


def imports(tree: ast.AST) -> Iterator[str]:
    """The top-level names of all modules that are imported anywhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def strings(tree: ast.AST) -> Iterator[str]:
    """Every string of a file, the constant parts of f-strings included, docstrings not."""
    documentation = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in documentation:
                yield node.value


def within(name: str, homes: tuple[str, ...]) -> bool:
    return any(name == home or name.startswith((f"{home}/", f"{home}.")) for home in homes)


@pytest.mark.parametrize("file", PACKAGE, ids=name_of)
def test_a_driver_is_imported_in_its_one_place(file: Path) -> None:
    found = set(imports(ast.parse(file.read_text(encoding="utf-8"))))
    strays = [driver for driver in HOMES.keys() & found if not within(name_of(file), HOMES[driver])]
    assert not strays


@pytest.mark.parametrize("file", PACKAGE, ids=name_of)
def test_sql_stands_in_the_store_and_the_migrations(file: Path) -> None:
    if within(name_of(file), SQL_HOMES):
        return
    found = [text for text in strings(ast.parse(file.read_text("utf-8"))) if SQL.match(text)]
    assert not found


def test_there_is_a_requirement_file_for_every_use() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = set(project["optional-dependencies"])
    others = {"client", "build", "deploy", "install", "audit", "tls-scan"}
    assert {file.stem for file in REQUIREMENTS} == extras | others


@pytest.mark.parametrize("file", REQUIREMENTS, ids=name_of)
def test_requirements_are_pinned_with_hashes_and_have_no_address(file: Path) -> None:
    text = re.sub(r"^\s*#.*$", "", file.read_text("utf-8"), flags=re.MULTILINE)
    requirements = text.replace("\\\n", " ").split("\n")
    for requirement in filter(str.strip, requirements):
        assert re.match(r"[a-z0-9][a-z0-9._-]*==\S+ ", requirement), requirement
        assert re.search(r" --hash=sha256:[0-9a-f]{64}", requirement), requirement
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host| @ |/", text)


# sslyze, in an environment of its own, holds cryptography back.
SAME_RELEASES = [file for file in REQUIREMENTS if file.stem != "tls-scan"]


@pytest.mark.parametrize("file", SAME_RELEASES, ids=name_of)
def test_one_release_of_a_package_for_every_use(file: Path) -> None:
    pins = dict(re.findall(r"^(\S+)==(\S+)", file.read_text("utf-8"), re.MULTILINE))
    everything = (ROOT / "requirements" / "dev.txt").read_text("utf-8")
    reference = dict(re.findall(r"^(\S+)==(\S+)", everything, re.MULTILINE))
    assert {name: reference.get(name, pin) for name, pin in pins.items()} == pins


def test_no_private_key_is_tracked(texts: dict[str, str]) -> None:
    assert [name for name, text in texts.items() if PRIVATE_KEY.search(text)] == []


def test_no_registry_is_named(texts: dict[str, str]) -> None:
    assert [name for name, text in texts.items() if REGISTRIES.search(text)] == []


def test_no_lock_file_and_nothing_generated_is_tracked() -> None:
    generated = re.compile(r"(^|/)(uv\.lock|poetry\.lock|__pycache__|\.venv|\.run|\.cache)(/|$)")
    assert [name_of(file) for file in tracked() if generated.search(name_of(file))] == []


def test_packages_have_a_purpose_that_make_installs() -> None:
    lines = (ROOT / "tools" / "packages").read_text("utf-8").splitlines()
    purposes = {line.split()[0] for line in lines if line and not line.startswith("#")}
    makefiles = [ROOT / "Makefile", ROOT / "tools" / "deploy.mk"]
    rules = "".join(file.read_text("utf-8") for file in makefiles)
    installed = re.findall(r"tools/install-packages (.+)", rules)
    assert purposes == {purpose for line in installed for purpose in line.split()}
