"""What a caller may name: product ids, destinations, staged paths."""

import socket
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deliv.delivery.destination import (
    check_place,
    check_product_id,
    destination_key,
    parse_directory,
    staged_url,
)
from deliv.errors import InvalidRequest
from deliv.identity import hosts
from deliv.model.job import Job
from deliv.model.states import Status


@pytest.mark.parametrize(
    ("given", "url", "host"),
    [
        ("gsiftp://h.example.org/data", "gsiftp://h.example.org/data", "h.example.org"),
        ("gsiftp://h.example.org:2811/data/", "gsiftp://h.example.org/data", "h.example.org"),
        ("gsiftp://h.example.org:02811/data", "gsiftp://h.example.org/data", "h.example.org"),
        ("gsiftp://h.example.org:/data", "gsiftp://h.example.org/data", "h.example.org"),
        ("gsiftp://h.example.org./data", "gsiftp://h.example.org/data", "h.example.org"),
        ("gsiftp://h.example.org.:2812/data", "gsiftp://h.example.org:2812/data", "h.example.org"),
        ("GSIFTP://h//data///x//", "gsiftp://h/data/x", "h"),
        ("gsiftp://h/%2Fdata%2fx", "gsiftp://h/data/x", "h"),
        ("gsiftp://h/%64ata", "gsiftp://h/data", "h"),
        ("gsiftp://h//", "gsiftp://h/", "h"),
        (
            "gsiftp://XN--Bcher-KVA.example/a",
            "gsiftp://xn--bcher-kva.example/a",
            "xn--bcher-kva.example",
        ),
        ("gsiftp://[2001:DB8:0::0:1]/a", "gsiftp://[2001:db8::1]/a", "2001:db8::1"),
        ("gsiftp://[::ffff:192.0.2.7]/a", "gsiftp://192.0.2.7/a", "192.0.2.7"),
        ("gsiftp://H.Example.ORG/", "gsiftp://h.example.org/", "h.example.org"),
        ("gsiftp://127.0.0.1:50000/a/b", "gsiftp://127.0.0.1:50000/a/b", "127.0.0.1"),
        ("gsiftp://[::1]:2811/a", "gsiftp://[::1]/a", "::1"),
        ("gsiftp://h/with space", "gsiftp://h/with%20space", "h"),
        ("gsiftp://h/with%20space", "gsiftp://h/with%20space", "h"),
        ("gsiftp://h/é", "gsiftp://h/%C3%A9", "h"),
        ("gsiftp://h/a%25b", "gsiftp://h/a%25b", "h"),
    ],
)
def test_directories_become_canonical(given: str, url: str, host: str) -> None:
    directory = parse_directory(given)
    assert (directory.url, directory.host) == (url, host)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("/data", "gsiftp://"),
        ("http://h/data", "gsiftp://"),
        ("file:///etc/passwd", "gsiftp://"),
        ("gsiftp:///data", "no host"),
        ("gsiftp://:2811/data", "no host"),
        ("gsiftp://user@h/data", "user information"),
        ("gsiftp://user:secret@h/data", "user information"),
        ("gsiftp://@h/data", "user information"),
        ("gsiftp://h", "no directory"),
        ("gsiftp://h/a/../b", ".."),
        ("gsiftp://h/a/%2e%2e/b", ".."),
        ("gsiftp://h/a%2f..%2fb", ".."),
        ("gsiftp://h/./b", ". or .."),
        ("gsiftp://h/a?b", "query"),
        ("gsiftp://h/a#b", "fragment"),
        ("gsiftp://h/a\nb", "control"),
        ("gsiftp://h/a\x00b", "control"),
        ("gsiftp://h/a%00b", "control"),
        ("gsiftp://h/a%0ab", "control"),
        ("gsiftp://h/a%zz", "percent-encoding"),
        ("gsiftp://h/a%ff", "UTF-8"),
        ("gsiftp://h:0x50/a", "well-formed"),
        ("gsiftp://h:99999/a", "well-formed"),
        ("gsiftp://[::1/a", "well-formed"),
        ("gsiftp://h[::1]x/a", "IPV6-ADDRESS"),
        ("gsiftp://[fe80::1%25eth0]/a", "IPV6-ADDRESS"),
        ("gsiftp://[fe80::1%eth0]/a", "IPV6-ADDRESS"),
        ("gsiftp://[v1.x]/a", "IPV6-ADDRESS"),
        ("gsiftp://-h/a", "host name"),
        ("gsiftp://h_!/a", "host name"),
        ("gsiftp://1.2.3/a", "IP address"),
        ("gsiftp://127.1/a", "IP address"),
        ("gsiftp://0x7f000001/a", "IP address"),
        ("gsiftp://0X7F.1/a", "IP address"),
        ("gsiftp://127.0.0.0x1/a", "IP address"),
        ("gsiftp://0x/a", "IP address"),
        ("gsiftp://2130706433/a", "IP address"),
        ("gsiftp://0177.0.0.1/a", "IP address"),
        ("gsiftp://017700000001/a", "IP address"),
        ("gsiftp://127.0.0.1./a", "IP address"),
        ("gsiftp://h.example.1/a", "IP address"),
        ("gsiftp://h../a", "host name"),
        ("gsiftp://./a", "host name"),
        ("gsiftp://b\u00fccher.example/a", "xn--"),
        ("gsiftp://\u212a.example/a", "xn--"),
        ("gsiftp://h:0/a", "port"),
        ("gsiftp://h/~/a", "home directory"),
        ("gsiftp://h//~alice/a", "home directory"),
        ("gsiftp://h/%7e", "home directory"),
        ("gsiftp://h/" + "a" * 990, "longer"),
        ("gsiftp://h/" + "\u00e9" * 165, "longer"),
        ("gsiftp://h/\ud800", "control"),
    ],
)
def test_bad_directories_are_named(given: str, complaint: str) -> None:
    with pytest.raises(InvalidRequest, match="destination_path") as caught:
        parse_directory(given)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "dtn.example.org", "192.0.2.7", "[2001:db8::7]"])
def test_no_destination_is_looked_up_or_connected_to(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError(f"asked the network for {arguments}")

    for name in ("socket", "getaddrinfo", "gethostbyname", "gethostbyname_ex", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    directory = parse_directory(f"gsiftp://{host}/data")
    assert directory.file("a").startswith(f"gsiftp://{host}/")
    assert not hosts.compiled("*.example.com")(directory.host)
    assert staged_url(host, "/data/a") == f"gsiftp://{host}/data/a"


@pytest.mark.parametrize("given", ["", " ", "a\tb", "x" * 1025, "é" * 1025])
def test_bad_product_ids_are_refused(given: str) -> None:
    with pytest.raises(InvalidRequest, match="product_id"):
        check_product_id(given)


def test_file_names_are_encoded() -> None:
    directory = parse_directory("gsiftp://h/d")
    assert directory.file("a b?é#%.fits") == "gsiftp://h/d/a%20b%3F%C3%A9%23%25.fits"


def test_staged_copies_have_urls() -> None:
    assert staged_url("h:2811", "/s/a b") == "gsiftp://h:2811/s/a%20b"


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("h/x", "/a"),
        ("u@h", "/a"),
        ("", "/a"),
        ("h:0", "/a"),
        ("h:70000", "/a"),
        ("h:", "/a"),
        ("h:٣", "/a"),
        ("[h]", "/a"),
        ("h[::1]", "/a"),
        ("[fe80::1%eth0]", "/a"),
        ("h", "a"),
        ("h", "/a/"),
        ("h", "/a/../b"),
        ("h", "/a\nb"),
        ("h\n", "/a"),
        ("h", "/" + "a" * 1091),
        ("0x7f000001", "/a"),
        ("127.1:2811", "/a"),
    ],
)
def test_bad_staged_places_are_refused(host: str, path: str) -> None:
    with pytest.raises(InvalidRequest):
        check_place(host, path)


def job_to(url: str, host: str) -> Job:
    return Job(
        job_id="j",
        product_id="p",
        status=Status.STAGING,
        destination_path=url,
        destination_host=host,
        submitter="/CN=a",
        time_submitted=datetime(2026, 1, 1, tzinfo=UTC),
        stager_path="/copy/a b.fits",
    )


@pytest.mark.parametrize(
    "old",
    [
        "gsiftp://h.org:2811/data",
        "gsiftp://h.org./data",
        "gsiftp://h.org//data",
        "gsiftp://h.org/data",
    ],
)
def test_a_job_of_before_the_normal_form_has_the_key_of_its_file(old: str) -> None:
    """Of a release that kept ports, dots and slashes as they were given."""
    new = destination_key(job_to("gsiftp://h.org/data", "h.org"))
    assert destination_key(job_to(old, "h.org")) == new
    assert new == sha256(b"gsiftp://h.org/data/a%20b.fits").digest()


def test_a_job_of_before_whose_host_is_refused_now_has_a_key_all_the_same() -> None:
    assert len(destination_key(job_to("gsiftp://0x7f000001/data", "0x7f000001"))) == 32


@given(st.text(max_size=80))
def test_any_text_is_a_directory_or_a_clear_error(text: str) -> None:
    try:
        directory = parse_directory("gsiftp://h/" + text)
    except InvalidRequest:
        return
    assert directory.url.isascii()
    assert parse_directory(directory.url + "/").url == directory.url
