"""The one-line form against OpenSSL's own, and that no name can be mistaken for another."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID
from deliv_testbed import pki
from hypothesis import given
from hypothesis import strategies as st
from support import libcrypto
from support.credentials import BMP, CN, OU, T61, UTF8, Grid, O, named, raw_name

from deliv.errors import CredentialRefused
from deliv.identity.x509 import certificates, der, dn
from deliv.identity.x509.attribute_types import SHORT_NAMES

UNIVERSAL, BIT_STRING = 28, 3
TAGS = (3, 12, 18, 19, 20, 22, 26, 27, 28, 30)
EMAIL = bytes.fromhex("2a864886f70d010901")
DC = bytes.fromhex("0992268993f22c640119")
UNKNOWN = bytes.fromhex("2a0304")
TRICKY = ("/", "+", "=", "\\", "/CN=", "+OU=", "\\x2F", "a", " ", "é", "\0", "*", "/CN=alice")

tricky_text = st.lists(st.sampled_from(TRICKY), max_size=6).map("".join)
octets = st.binary(max_size=12) | tricky_text.map(str.encode)
arcs = st.lists(st.integers(0, 2**40), min_size=1, max_size=12)
types = st.sampled_from([CN, O, OU, EMAIL, DC, UNKNOWN]) | arcs.map(
    lambda numbers: der.encode_object_identifier(".".join(map(str, (1, 2, *numbers))))
)
attributes = st.tuples(types, st.sampled_from(TAGS), octets).map(
    lambda one: (one[0], one[1], bits(one[2]) if one[1] == BIT_STRING else one[2])
)
names = st.lists(st.lists(attributes, min_size=1, max_size=3), max_size=5).map(
    lambda rdns: raw_name(*rdns)
)


def bits(octets: bytes) -> bytes:
    """A BIT STRING's contents: the first octet counts the unused bits of the last."""
    return bytes([len(octets) % 8]) + octets


@given(names)
def test_the_one_line_form_is_openssls(name: bytes) -> None:
    expected = libcrypto.describe(name)
    if expected is not None:
        assert dn.oneline(name) == expected[0]


@given(names)
def test_the_hash_is_openssls(name: bytes) -> None:
    expected = libcrypto.describe(name)
    if expected is not None:
        assert dn.name_hash(name) == expected[1]


@given(st.binary(max_size=60))
def test_octets_that_are_no_name_are_an_error(octets: bytes) -> None:
    try:
        printed = dn.oneline(octets)
    except ValueError:
        return
    assert libcrypto.describe(octets) in (None, (printed, dn.name_hash(octets)))


@pytest.mark.parametrize("oid", SHORT_NAMES)
def test_every_short_name_is_openssls(oid: str) -> None:
    kind = der.encode_object_identifier(oid)
    name = raw_name([(kind, UTF8, b"x")])
    assert libcrypto.describe(name) == (f"/{SHORT_NAMES[oid]}=x", dn.name_hash(name))


def test_no_two_attribute_types_have_one_name() -> None:
    assert len(set(SHORT_NAMES.values())) == len(SHORT_NAMES)


@pytest.mark.parametrize(
    ("rdns", "expected"),
    [
        ([[(O, UTF8, b"Grid")], [(CN, UTF8, b"alice")]], "/O=Grid/CN=alice"),
        ([[(CN, UTF8, b"a/CN=b+c")]], r"/CN=a\/CN=b\+c"),
        ([[(CN, UTF8, b"alice"), (OU, UTF8, b"staff")]], "/CN=alice+OU=staff"),
        ([[(CN, UTF8, "Zoë".encode())]], r"/CN=Zo\xC3\xAB"),
        ([[(CN, T61, "Zoë".encode("latin-1"))]], r"/CN=Zo\xEB"),
        ([[(CN, BMP, "Zo".encode("utf-16-be"))]], r"/CN=\x00Z\x00o"),
        ([[(CN, UNIVERSAL, "Z".encode("utf-32-be"))]], r"/CN=\x00\x00\x00Z"),
        ([[(CN, 3, b"\0ab")]], "/CN=ab"),
        ([[(UNKNOWN, UTF8, b"x")]], "/1.2.3.4=x"),
        ([[(DC, 22, b"org")], [(EMAIL, 22, b"a@b")]], "/DC=org/emailAddress=a@b"),
        ([[(CN, UTF8, b"\x7f\n")]], r"/CN=\x7F\x0A"),
        ([], ""),
    ],
)
def test_forms_that_users_meet(rdns: list[list[tuple[bytes, int, bytes]]], expected: str) -> None:
    name = raw_name(*rdns)
    assert dn.oneline(name) == expected
    assert libcrypto.describe(name) == (expected, dn.name_hash(name))


@pytest.mark.parametrize("rdns", [[[]], [[], [(O, UTF8, b"Grid")]], [[(O, UTF8, b"Grid")], []]])
def test_empty_parts_of_a_name_do_not_count(rdns: list[list[tuple[bytes, int, bytes]]]) -> None:
    name = raw_name(*rdns)
    assert libcrypto.describe(name) == (dn.oneline(name), dn.name_hash(name))


def test_a_value_that_is_no_string_is_malformed() -> None:
    with pytest.raises(ValueError, match="not a string"):
        dn.parse(raw_name([(CN, der.SEQUENCE, b"users")]))


def test_a_value_that_is_not_what_its_type_says_is_malformed(tmp_path: Path) -> None:
    name = raw_name([(O, UTF8, b"Grid")], [(CN, UTF8, b"Zo\xeb")])
    assert libcrypto.describe(name) is None
    user = named(Grid.create(tmp_path / "certificates").root, name).certificate
    with pytest.raises(CredentialRefused, match="malformed"):
        certificates.load(user.public_bytes(serialization.Encoding.DER))


def test_names_of_the_cryptography_package() -> None:
    name = x509.Name(
        [
            x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COUNTRY_NAME, "ZA")]),
            x509.RelativeDistinguishedName(
                [
                    x509.NameAttribute(NameOID.COMMON_NAME, "Zoë"),
                    x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "a/b"),
                ]
            ),
        ]
    )
    assert dn.oneline(name) == r"/C=ZA/OU=a\/b+CN=Zo\xC3\xAB"
    assert libcrypto.describe(name.public_bytes()) == (
        dn.oneline(name),
        dn.name_hash(name.public_bytes()),
    )


@pytest.mark.parametrize(
    "rdns",
    [
        [[(CN, UTF8, b"a/CN=b+c")], [(CN, UTF8, "Zoë".encode())]],
        [[(CN, T61, b"Zo\xeb"), (OU, BMP, b"\0a\0/")]],
        [[(UNKNOWN, UTF8, b"x")], [(EMAIL, 22, b"a@b")]],
    ],
)
def test_the_openssl_command_prints_the_same(
    tmp_path: Path, rdns: list[list[tuple[bytes, int, bytes]]]
) -> None:
    name = raw_name(*rdns)
    root = Grid.create(tmp_path / "certificates").root
    file = tmp_path / "user.pem"
    certificate = named(root, name).certificate
    file.write_bytes(pki.certificate_pem(certificate))
    command = ["openssl", "x509", "-noout", "-subject", "-subject_hash", "-nameopt", "compat"]
    done = subprocess.run([*command, "-in", file], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == [f"subject={dn.oneline(name)}", dn.name_hash(name)]
    assert dn.subject(certificate) == name
    assert dn.oneline(dn.issuer(certificate)) == "/O=Grid/CN=root CA"


def read_back(line: str) -> list[list[tuple[str, bytes]]]:
    """The only name without ambiguity that prints this line, as types and octets."""
    units = re.findall(r"\\x[0-9A-F]{2}|\\[/+]|.", line)
    rdns: list[list[list[str]]] = []
    for unit in units:
        if unit == "/":
            rdns.append([[]])
        elif unit == "+":
            rdns[-1].append([])
        else:
            rdns[-1][-1].append(unit)
    return [[_attribute(attribute) for attribute in rdn] for rdn in rdns]


def _attribute(units: list[str]) -> tuple[str, bytes]:
    sign = units.index("=")
    return "".join(units[:sign]), b"".join(map(_octet, units[sign + 1 :]))


def _octet(unit: str) -> bytes:
    return bytes.fromhex(unit[2:]) if unit.startswith("\\x") else unit[-1].encode("ascii")


@given(names)
def test_a_name_without_ambiguity_can_be_read_back(name: bytes) -> None:
    rdns = dn.parse(name)
    if dn.ambiguity(rdns) is None:
        octets = [[(one.short_name, one.value) for one in rdn] for rdn in rdns]
        assert read_back(dn.oneline(name)) == octets


values = st.tuples(st.sampled_from(TAGS[1:]), octets | st.text(max_size=4).map(
    lambda text: text.encode("utf-16-be", "surrogatepass")
))  # fmt: skip


@given(values, values)
def test_octets_without_ambiguity_have_one_meaning(
    one: tuple[int, bytes], other: tuple[int, bytes]
) -> None:
    """The same octets in two string types are the same characters, or one is refused."""
    first, second = dn.parse(raw_name([(CN, *one)])), dn.parse(raw_name([(CN, other[0], one[1])]))
    if dn.ambiguity(first) is None and dn.ambiguity(second) is None:
        assert first[0][0].text() == second[0][0].text()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([[(CN, UTF8, b"eve\\")], [(CN, UTF8, b"alice")]], [[(CN, UTF8, b"eve/CN=alice")]]),
        ([[(CN, UTF8, rb"\xC3")]], [[(CN, T61, b"\xc3")]]),
        ([[(CN, BMP, b"alice!")]], [[(CN, UTF8, b"alice!")]]),
        ([[(CN, BMP, b"\0a")]], [[(CN, UTF8, b"\0a")]]),
        ([[(CN, T61, "é".encode())]], [[(CN, UTF8, "é".encode())]]),
        ([[(CN, UTF8, b"a")], []], [[(CN, UTF8, b"a")]]),
    ],
)
def test_of_two_names_that_print_one_line_at_most_one_is_accepted(
    one: list[list[tuple[bytes, int, bytes]]], other: list[list[tuple[bytes, int, bytes]]]
) -> None:
    names = raw_name(*one), raw_name(*other)
    assert dn.oneline(names[0]) == dn.oneline(names[1])
    assert not all(dn.ambiguity(dn.parse(name)) is None for name in names)


def test_a_type_that_openssl_cuts_off_is_refused() -> None:
    long = b"\x2a" + b"\x81\x80\x80\x80\x00" * 20
    name = raw_name([(long, UTF8, b"x")])
    described = libcrypto.describe(name)
    assert described is not None
    assert dn.oneline(name) == described[0]
    assert dn.ambiguity(dn.parse(name)) == "an attribute type is too long"


@given(st.binary(max_size=40))
def test_der_is_read_as_it_would_be_written(octets: bytes) -> None:
    try:
        found = list(der.elements(octets))
    except ValueError:
        return
    assert b"".join(der.encode(one.tag, one.content) for one in found) == octets
