"""The dummy FTS: what is copied, and how a copy is refused."""

from __future__ import annotations

import pytest

from integration.dummy_fts.copying import CONTENT, arrived, copy, reason, submitted
from integration.private_fts import Client, Fts


def test_names_are_percent_encoded(fts: Fts, alice: Client) -> None:
    names = ("with space", "čáp na střeše", "100%25?#&+;=,", "deep/er/and/deeper", "a'b\"c")
    for name in names:
        fts.put_source(name, CONTENT)
    files = [
        {"sources": [fts.at_source(name)], "destinations": [fts.at_destination(f"names/{name}")]}
        for name in names
    ]
    job = submitted(alice.submit({"files": files, "params": {"verify_checksum": "both"}}))
    assert alice.ended(job) == "FINISHED", alice.get(f"/jobs/{job}/files").content
    assert [arrived(fts, f"names/{name}") for name in names] == [CONTENT] * len(names)


def test_a_name_outside_ascii_can_not_be_sent_raw(fts: Fts, alice: Client) -> None:
    """What gfal2 does, and why deliv has to encode."""
    fts.put_source("čáp", CONTENT)
    raw = f"{fts.source.url}/čáp"
    job = submitted(alice.submit(fts.transfer(raw, fts.at_destination("x"))))
    assert alice.ended(job) == "FAILED"
    assert "an invalid value for url was used" in reason(alice, job)


def test_an_empty_file(fts: Fts, alice: Client) -> None:
    fts.put_source("empty", b"")
    job = copy(fts, alice, "empty", "empty", verify_checksum="both")
    assert alice.ended(job) == "FINISHED", reason(alice, job)
    assert arrived(fts, "empty") == b""


def test_a_shorter_file_replaces_a_longer_one(fts: Fts, alice: Client) -> None:
    (fts.destination.root / "longer").write_bytes(CONTENT * 3)
    fts.account.own(fts.destination.root / "longer")
    job = copy(fts, alice, "small", "longer", overwrite=True)
    assert alice.ended(job) == "FINISHED", reason(alice, job)
    assert arrived(fts, "longer") == CONTENT


@pytest.mark.parametrize("mode", ["target", "both", "source"])
def test_checksums(fts: Fts, alice: Client, mode: str) -> None:
    body = fts.transfer(
        fts.at_source("small"), fts.at_destination(f"sum-{mode}"), verify_checksum=mode
    )
    body["files"][0]["checksum"] = "ADLER32:00000001"
    job = submitted(alice.submit(body))
    assert alice.ended(job) == "FAILED"
    which = "DST" if mode == "target" else "SRC"
    assert reason(alice, job).startswith(
        f"TRANSFER [5] TRANSFER CHECKSUM MISMATCH USER_DEFINE and {which} checksums are different."
    )


def test_a_directory_that_may_not_be_written(fts: Fts, alice: Client) -> None:
    directory = fts.destination.root / "closed"
    directory.mkdir()
    fts.account.own(directory)
    directory.chmod(0o555)
    job = copy(fts, alice, "small", "closed/x")
    assert alice.ended(job) == "FAILED"
    assert reason(alice, job).startswith("TRANSFER [13] ")
    assert "Permission denied" in reason(alice, job)


def test_a_path_outside_of_what_is_served(fts: Fts, alice: Client) -> None:
    outside = f"gsiftp://{fts.destination.address}/tmp/outside"
    job = submitted(alice.submit(fts.transfer(fts.at_source("small"), outside)))
    assert alice.ended(job) == "FAILED"
    assert "not allowed" in reason(alice, job)


def test_a_scheme_that_nobody_speaks(fts: Fts, alice: Client) -> None:
    body = fts.transfer("foo://localhost/x", fts.at_destination("x"))
    job = submitted(alice.submit(body))
    assert alice.ended(job) == "FAILED"
    assert reason(alice, job).startswith("SOURCE [93] Protocol not supported")
