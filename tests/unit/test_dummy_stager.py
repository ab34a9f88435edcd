"""The dummy stager's pure parts: faults, products, copies, its register, its documents."""

from __future__ import annotations

import asyncio
import json
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from deliv_testbed import synthetic
from deliv_testbed.settings import read
from deliv_testbed.stager.access import Access
from deliv_testbed.stager.archive import Archive, Product
from deliv_testbed.stager.callbacks import codes
from deliv_testbed.stager.copying import LISTING, PARTIAL, Interrupted, copy
from deliv_testbed.stager.faults import Faults, faults_of
from deliv_testbed.stager.register import Register, Staging, StagingRequest, State
from deliv_testbed.stager.reports import Reports
from deliv_testbed.stager.requests import parse
from deliv_testbed.stager.settings import StagerSettings
from deliv_testbed.trees import tree_of
from hypothesis import given
from hypothesis import strategies as st

from deliv.errors import ConfigError, Forbidden, InvalidRequest

NO_FAULTS = Faults(product_id="")
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
        ("held-005", Faults(product_id="005", held=True)),
        ("slow-2.5-synthetic-10", Faults(product_id="synthetic-10", delay=2.5)),
        ("twice-slow-1-005", Faults(product_id="005", twice=True, delay=1)),
        ("lost-3-tree-5-10", Faults(product_id="tree-5-10", lost=frozenset({3}))),
        (
            "short-1-lost-2-slow-1-short-12-P",
            Faults(product_id="P", lost=frozenset({2}), short=frozenset({1, 12}), delay=1),
        ),
        ("lost-005", Faults(product_id="lost-005")),
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
    assert contents(product) == {"ä b.fits": b"content"}
    assert (product.name, product.is_directory) == ("ä b.fits", False)
    assert archive.find("data/ä b.fits") is None
    assert archive.find("../M31") is None
    sizes = {"M31": 7, "synthetic-5": 5, "tree-200-3-10": 198 * 3 + 2 * 10, "unknown": 0}
    assert {product: archive.size(product) for product in sizes} == sizes
    made = archive.find("synthetic-5")
    assert made is not None
    assert contents(made) == {"synthetic-5": b"".join(synthetic.chunks(5))}


def contents(product: Product) -> dict[str, bytes]:
    return {name: b"".join(chunks) for name, chunks in product.files}


@pytest.mark.parametrize(
    "name",
    [
        "tree-0-5",
        "tree-5",
        "tree-05-5",
        "tree-5--1",
        "tree-5-01",
        "tree-5-1x",
        "tree-1000001-1",
        "tree-5-1-",
        "tree-5-1-01",
    ],
)
def test_not_every_tree_is_a_product(name: str) -> None:
    assert tree_of(name) is None


@pytest.mark.parametrize("size", [0, 1, 7, 8, 2**20, 2**20 + 3])
def test_a_tree_has_files_of_its_size_in_nested_directories(tmp_path: Path, size: int) -> None:
    product, again = (Archive(tmp_path).find(f"tree-12-{size}") for _ in range(2))
    assert product and again and product.is_directory
    files = contents(product)
    assert files == contents(again)
    assert {len(content) for content in files.values()} == {size}
    assert len(files) == 12
    assert len(set(files.values())) == (12 if size else 1)
    assert max(name.count("/") for name in files) == 2
    assert len({name.split("/")[0] for name in files}) > 1


def test_each_hundredth_file_of_a_tree_may_be_larger(tmp_path: Path) -> None:
    product = Archive(tmp_path).find("tree-250-3-2000000")
    assert product
    sizes = [len(content) for content in contents(product).values()]
    assert [number for number, size in enumerate(sizes, 1) if size != 3] == [100, 200]
    assert (sizes[99], sizes[199]) == (2_000_000, 2_000_000)


def test_no_name_of_a_tree_is_another_ones_directory() -> None:
    tree = tree_of("tree-20000-1")
    assert tree
    names = set(tree.names)
    directories = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    assert len(names) == 20_000
    assert not names & directories


def product(*files: tuple[str, list[bytes]], is_directory: bool = False) -> Product:
    pieces = [(name, iter(chunks)) for name, chunks in files]
    return Product(name="name", files=pieces, is_directory=is_directory)


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_copy_is_exact(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]) -> None:
    place = tmp_path_factory.mktemp("copy") / "job"
    done = copy(product(("name", chunks)), place, threading.Event(), NO_FAULTS)
    content = b"".join(chunks)
    assert (place / "name").read_bytes() == content
    assert (done.size, done.checksum) == (len(content), f"ADLER32:{zlib.adler32(content):08x}")
    assert [path.name for path in place.iterdir()] == ["name"]


def test_a_directory_is_copied_with_a_listing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "left over").touch()
    files = product(("a b/ü", [b"one", b"two"]), ("c", []), is_directory=True)
    done = copy(files, tmp_path / "job", threading.Event(), NO_FAULTS)
    assert (done.size, done.checksum) == (6, None)
    assert {path.name for path in (tmp_path / "job").iterdir()} == {"name", LISTING}
    assert (tmp_path / "job" / "name" / "a b" / "ü").read_bytes() == b"onetwo"
    assert json.loads((tmp_path / "job" / LISTING).read_text("utf-8")) == [
        {"name": "a b/ü", "size": 6, "checksum": f"ADLER32:{zlib.adler32(b'onetwo'):08x}"},
        {"name": "c", "size": 0, "checksum": "ADLER32:00000001"},
    ]


@pytest.mark.parametrize("is_directory", [False, True])
def test_interrupted_copy_never_shows_its_name(tmp_path: Path, is_directory: bool) -> None:
    stop = threading.Event()
    stop.set()
    files = product(("name", [b"x"]), is_directory=is_directory)
    with pytest.raises(Interrupted):
        copy(files, tmp_path / "job", stop, NO_FAULTS)
    assert {path.name for path in (tmp_path / "job").iterdir()} <= {PARTIAL, LISTING}


def test_a_report_of_many_files_is_sent_in_pieces(register: Register, tmp_path: Path) -> None:
    register.put(StagingRequest(**BODY))
    register.staged(JOB, name="P1", size=4, checksum=None)
    listing = tmp_path / JOB / LISTING
    listing.parent.mkdir()
    listed = [{"name": f"{number:06d}", "size": 0} for number in range(10_000)]
    listing.write_text(json.dumps(listed), encoding="utf-8")
    report = Reports("h:1", "/staging/", tmp_path).report(known(register), "c0de")
    pieces: list[bytes] = []

    async def write(piece: bytes) -> None:
        pieces.append(piece)

    asyncio.run(report.produce(write))
    assert max(map(len, pieces)) <= 2**16
    assert sum(map(len, pieces)) == report.size
    document = json.loads(b"".join(pieces))
    assert list(document)[-1] == "files"
    assert (document["path"], document["files"]) == (f"/staging/{JOB}/P1", listed)


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
