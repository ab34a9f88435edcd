"""What a caller may name: product ids, destinations, staged paths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deliv.delivery.destination import check_place, check_product_id, parse_directory, staged_url
from deliv.errors import InvalidRequest


@pytest.mark.parametrize(
    ("given", "url", "host"),
    [
        ("gsiftp://h.example.org/data", "gsiftp://h.example.org/data", "h.example.org"),
        ("gsiftp://h.example.org:2811/data/", "gsiftp://h.example.org:2811/data", "h.example.org"),
        ("gsiftp://H.Example.ORG/", "gsiftp://h.example.org", "h.example.org"),
        ("gsiftp://127.0.0.1:50000/a/b", "gsiftp://127.0.0.1:50000/a/b", "127.0.0.1"),
        ("gsiftp://[::1]:2811/a", "gsiftp://[::1]:2811/a", "::1"),
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
        ("gsiftp://h/" + "a" * 990, "longer"),
        ("gsiftp://h/" + "\u00e9" * 165, "longer"),
        ("gsiftp://h/\ud800", "control"),
    ],
)
def test_bad_directories_are_named(given: str, complaint: str) -> None:
    with pytest.raises(InvalidRequest, match="destination_path") as caught:
        parse_directory(given)
    assert complaint in str(caught.value)


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
    ],
)
def test_bad_staged_places_are_refused(host: str, path: str) -> None:
    with pytest.raises(InvalidRequest):
        check_place(host, path)


@given(st.text(max_size=80))
def test_any_text_is_a_directory_or_a_clear_error(text: str) -> None:
    try:
        directory = parse_directory("gsiftp://h/" + text)
    except InvalidRequest:
        return
    assert directory.url.isascii()
    assert parse_directory(directory.url + "/").url == directory.url
