"""The migrations as files: numbering, statements, checksums."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from deliv.store import migrations
from deliv.store.migrations import MigrationRefused, split


def test_statements_end_at_unindented_lines() -> None:
    text = """
-- A comment; with a semicolon;
CREATE TABLE a (
  b INT COMMENT 'x; y' -- kept
);
CREATE OR REPLACE TRIGGER t BEFORE INSERT ON a FOR EACH ROW
BEGIN
  -- inside
  SET NEW.b = 1;
  IF NEW.b = 2 THEN
    SET NEW.b = 3;
  END IF;
END;

INSERT IGNORE INTO a VALUES (1);
"""
    create, trigger, insert = split(text)
    assert create == "CREATE TABLE a (\n  b INT COMMENT 'x; y' -- kept\n)"
    assert trigger.startswith("CREATE OR REPLACE TRIGGER")
    assert trigger.endswith("  END IF;\nEND")
    assert "inside" not in trigger
    assert insert == "INSERT IGNORE INTO a VALUES (1)"


def test_a_last_statement_without_end_is_kept() -> None:
    assert split("A;\nB") == ["A", "B"]
    assert split("-- nothing\n") == []


def test_files_are_read_in_order_with_their_checksum(tmp_path: Path) -> None:
    (tmp_path / "0002_second.sql").write_text("B;\n")
    (tmp_path / "0001_first.sql").write_text("A;\n")
    (tmp_path / "session.sql").write_text("not a migration")
    first, second = migrations.load(tmp_path)
    assert (str(first), str(second)) == ("0001_first", "0002_second")
    assert first.checksum == hashlib.sha256(b"A;\n").hexdigest()
    assert second.statements == ("B",)


@pytest.mark.parametrize("names", [["0002_a"], ["0001_a", "0003_b"], ["0001_a", "0001_b"]])
def test_numbers_have_no_gap_and_no_double(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / f"{name}.sql").write_text("A;\n")
    with pytest.raises(MigrationRefused, match="numbered"):
        migrations.load(tmp_path)


def test_ours_can_all_be_repeated() -> None:
    heads = [
        statement.split("(")[0]
        for migration in migrations.load()
        for statement in migration.statements
    ]
    repeatable = (
        "IF NOT EXISTS",
        "IF EXISTS",
        "OR REPLACE",
        "INSERT IGNORE",
        "REPLACE INTO",
        "DELETE FROM",
        "LOCK TABLES",
    )
    assert heads
    assert [head for head in heads if not any(words in head for words in repeatable)] == []


# What the release before needs, or can't fill. Take it away two releases later, by naming the
# migration here together with the release that last needed it.
BREAKING = re.compile(
    r"DROP\s+(COLUMN|TABLE|TRIGGER)|RENAME|CHANGE\s+COLUMN|TRUNCATE"
    r"|ADD\s+COLUMN\s(?:(?!,$).)*NOT NULL(?!(?:(?!,$).)*DEFAULT)",
    re.DOTALL | re.IGNORECASE | re.MULTILINE,
)
ALLOWED: dict[str, str] = {}


@pytest.mark.parametrize(
    ("statement", "breaks"),
    [
        ("ALTER TABLE a\nDROP COLUMN IF EXISTS b", True),
        ("DROP TABLE IF EXISTS a", True),
        ("ALTER TABLE a RENAME COLUMN b TO c", True),
        ("ALTER TABLE a\nADD COLUMN IF NOT EXISTS b INT NOT NULL,\nADD COLUMN c INT", True),
        ("ALTER TABLE a\nADD COLUMN IF NOT EXISTS b INT NOT NULL DEFAULT 0,\nADD KEY k (b)", False),
        ("ALTER TABLE a\nADD COLUMN IF NOT EXISTS b INT NULL COMMENT 'x',\nDROP KEY k", False),
        ("CREATE TABLE IF NOT EXISTS a (\n  b INT NOT NULL\n)", False),
    ],
)
def test_what_breaks_the_release_before_is_recognised(statement: str, breaks: bool) -> None:
    assert bool(BREAKING.search(statement)) is breaks


def test_ours_leave_the_release_before_working() -> None:
    """An upgrade runs both releases on the new schema, and a rollback the older one alone."""
    found = {
        f"{migration}: {statement}"
        for migration in migrations.load()
        for statement in migration.statements
        if BREAKING.search(statement) and str(migration) not in ALLOWED
    }
    assert found == set()
