"""The dummy stager's pure parts: faults, products, copies, its register, its documents."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from deliv_testbed import synthetic
from deliv_testbed.settings import read
from deliv_testbed.stager.access import Access
from deliv_testbed.stager.archive import Archive
from deliv_testbed.stager.callbacks import codes
from deliv_testbed.stager.copying import PARTIAL, Interrupted, copy
from deliv_testbed.stager.faults import Faults, faults_of
from deliv_testbed.stager.register import Register, Staging, StagingRequest, State
from deliv_testbed.stager.requests import parse
from deliv_testbed.stager.settings import StagerSettings
from hypothesis import given
from hypothesis import strategies as st

from deliv.errors import ConfigError, Forbidden, InvalidRequest

JOB = "01900000-0000-7000-8000-000000000001"
BODY = {
    "job_id": JOB,
    "product_id": "P1",
    "authcode": "ab" * 16,
    "callback": "https://deliv.test:8443/doneStaging",
}


@pytest.mark.parametrize(
    ("product_id", "expected"),
    [
        ("005", Faults(product_id="005")),
        ("fail-005", Faults(product_id="005", fail=True)),
        ("silent-005", Faults(product_id="005", silent=True)),
        ("twice-005", Faults(product_id="005", twice=True)),
        ("badcode-a b", Faults(product_id="a b", badcode=True)),
        ("kept-005", Faults(product_id="005", kept=True)),
        ("slow-2.5-synthetic-10", Faults(product_id="synthetic-10", delay=2.5)),
        ("twice-slow-1-005", Faults(product_id="005", twice=True, delay=1)),
        ("slow-005", Faults(product_id="slow-005")),
        ("fail-", Faults(product_id="fail-")),
        ("failure-1", Faults(product_id="failure-1")),
    ],
)
def test_prefixes_order_faults(product_id: str, expected: Faults) -> None:
    assert faults_of(product_id) == expected


@pytest.mark.parametrize(
    "name", ["synthetic-", "synthetic--1", "synthetic-01", "synthetic-1x", f"synthetic-{2**41}"]
)
def test_not_every_synthetic_name_is_a_product(name: str) -> None:
    assert synthetic.size_of(name) is None


@pytest.mark.parametrize("size", [0, 1, 7, 2**20 - 1, 2**20, 2**20 + 3, 3 * 2**20])
def test_synthetic_content_has_its_size_and_checksum(size: int) -> None:
    content = b"".join(synthetic.chunks(size))
    assert len(content) == size
    assert f"{zlib.adler32(content):08x}" == synthetic.adler32(size)


def test_archive_finds_by_index_not_by_path(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ä b.fits").write_bytes(b"content")
    index = {"M31": {"file": "data/ä b.fits"}}
    (tmp_path / "products.json").write_text(json.dumps(index), encoding="utf-8")
    archive = Archive(tmp_path)
    product = archive.find("M31")
    assert product is not None
    assert (product.name, b"".join(product.chunks())) == ("ä b.fits", b"content")
    assert archive.find("data/ä b.fits") is None
    assert archive.find("../M31") is None
    made = archive.find("synthetic-5")
    assert made is not None
    assert b"".join(made.chunks()) == b"".join(synthetic.chunks(5))


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_copy_is_exact(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]) -> None:
    target = tmp_path_factory.mktemp("copy") / "job" / "name"
    done = copy(chunks, target, threading.Event())
    content = b"".join(chunks)
    assert target.read_bytes() == content
    assert (done.size, done.checksum) == (len(content), f"ADLER32:{zlib.adler32(content):08x}")
    assert [path.name for path in target.parent.iterdir()] == ["name"]


def test_interrupted_copy_never_shows_its_name(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        copy([b"x"], tmp_path / "job" / "name", stop)
    assert [path.name for path in (tmp_path / "job").iterdir()] == [PARTIAL]


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Register]:
    register = Register(tmp_path / "stager.sqlite")
    yield register
    register.close()


def known(register: Register) -> Staging:
    staging = register.get(JOB)
    assert staging is not None
    return staging


def test_register_goes_on_after_a_restart(register: Register, tmp_path: Path) -> None:
    register.put(StagingRequest(**BODY))
    register.staged(JOB, name="n", size=3, checksum="ADLER32:00000001")
    register.close()
    reopened = Register(tmp_path / "stager.sqlite")
    assert reopened.unreported() == [JOB]
    assert known(reopened).state is State.STAGED
    reopened.reported(known(reopened), [503, 200])
    assert reopened.unreported() == []
    assert known(reopened).answers == (503, 200)
    reopened.close()


def test_repeated_request_replaces_code_and_callback(register: Register) -> None:
    register.put(StagingRequest(**BODY))
    register.staged(JOB, name="n", size=3, checksum="ADLER32:00000001")
    register.reported(known(register), [200])
    register.put(StagingRequest(**BODY | {"authcode": "cd" * 16, "callback": "https://other/"}))
    staging = known(register)
    assert (staging.authcode, staging.callback) == ("cd" * 16, "https://other/")
    assert (staging.state, staging.told) == (State.STAGED, False)


def test_failed_staging_starts_over_when_asked_again(register: Register) -> None:
    register.put(StagingRequest(**BODY))
    register.failed(JOB, "tape lost")
    register.put(StagingRequest(**BODY))
    assert known(register).state is State.COPYING


def test_an_answer_to_an_old_code_leaves_the_new_one_unreported(register: Register) -> None:
    register.put(StagingRequest(**BODY))
    old = known(register)
    register.put(StagingRequest(**BODY | {"authcode": "cd" * 16}))
    register.reported(old, [403])
    assert register.unreported() == [JOB]


@pytest.mark.parametrize(
    ("product_id", "pattern"),
    [("P", "r"), ("twice-P", "rr"), ("badcode-P", "wr"), ("badcode-twice-P", "wrr")],
)
def test_codes_to_call_back_with(register: Register, product_id: str, pattern: str) -> None:
    register.put(StagingRequest(**BODY | {"product_id": product_id}))
    right = BODY["authcode"]
    assert "".join("r" if code == right else "w" for code in codes(known(register))) == pattern


def test_request_document() -> None:
    assert parse(json.dumps(BODY | {"later": 1}).encode()) == StagingRequest(**BODY)


@pytest.mark.parametrize(
    "change",
    [
        {"job_id": "../../etc"},
        {"job_id": 7},
        {"product_id": None},
        {"callback": "http://deliv.test/doneStaging"},
        {"callback": "https:///doneStaging"},
        {"callback": "https://deliv.test:port/"},
    ],
)
def test_bad_request_document(change: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        parse(json.dumps(BODY | change).encode())


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"{}"])
def test_not_a_request_document(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse(body)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://deliv.test:8443/doneStaging", True),
        ("https://DELIV.test:8443/doneStaging?x=1", True),
        ("https://deliv.test:8443/", False),
        ("http://deliv.test:8443/doneStaging", False),
        ("https://deliv.test/doneStaging", False),
        ("https://deliv.test:8444/doneStaging", False),
        ("https://deliv.test.evil.test:8443/doneStaging", False),
        ("https://deliv.test:8443@evil.test/doneStaging", False),
        ("https://deliv.test:8443\\@evil.test/doneStaging", False),
        ("https://evil.test/https://deliv.test:8443/doneStaging", False),
    ],
)
def test_callbacks_go_to_named_servers_only(url: str, allowed: bool) -> None:
    access = Access([], ["https://other.test", "https://deliv.test:8443/done"])
    if allowed:
        access.admit_callback(url)
    else:
        with pytest.raises(Forbidden):
            access.admit_callback(url)


def test_only_named_clients_are_admitted() -> None:
    access = Access(["/CN=deliv"], [])
    access.admit("/CN=deliv")
    for dn in ("/CN=deliver", "/CN=deli", "", None):
        with pytest.raises(Forbidden):
            access.admit(dn)


def test_settings_name_the_key_that_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "stager.json"
    file.write_text('{"host": "127.0.0.1", "prot": 1}')
    with pytest.raises(ConfigError, match="prot"):
        read(file, StagerSettings)
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path / "none.json", StagerSettings)
