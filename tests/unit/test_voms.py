"""Which VOMS attributes count, kind by kind, and when that changes."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from cryptography import x509
from deliv_testbed import pki
from deliv_testbed.pki import Authority, Credential
from support.attribute_certificates import HOST, Server, carried, carrying, host_of, minted
from support.credentials import (
    ALICE,
    CA_USE,
    IS_CA,
    USUAL,
    Grid,
    alice,
    certificate,
    days_ago,
    full,
    key,
    name_of,
    user,
)
from support.voms_kinds import BOTH, KINDS, Kind

from deliv.identity.voms import attribute_certificate, fqan, verification, vomsdir
from deliv.identity.voms.attribute_certificate import EXTENSION
from deliv.identity.x509 import der
from deliv.identity.x509.certificates import ChainLink
from deliv.identity.x509.chain import NO_ATTRIBUTES


@pytest.fixture
def server(tmp_path: Path) -> Server:
    grid = Grid.create(tmp_path / "certificates")
    return Server.create(grid, tmp_path / "vomsdir")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind(server: Server, kind: Kind) -> None:
    identity = server.seen(kind.make(server, alice(server.grid)))
    assert identity.dn == ALICE
    assert identity.attributes.fqans == kind.fqans
    assert (identity.attributes.refused is None) == (kind.reason is None)
    if kind.reason:
        assert re.search(kind.reason, str(identity.attributes.refused))
    assert str(identity.attributes.refused).isprintable()


def refused(server: Server, credential: Credential) -> str:
    attributes = server.seen(credential).attributes
    assert attributes.fqans == ()
    return str(attributes.refused)


def test_no_attributes_without_any(server: Server) -> None:
    assert server.seen(alice(server.grid)).attributes == NO_ATTRIBUTES
    assert server.seen(full(alice(server.grid))).attributes == NO_ATTRIBUTES


def test_a_users_own_certificate_carries_none(server: Server) -> None:
    holder = alice(server.grid)
    value = carried(server.ac(holder))
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(EXTENSION), value)
    given = alice(server.grid, extensions=(*USUAL, (extension, False)))
    assert server.seen(full(given)).attributes == NO_ATTRIBUTES


def test_attributes_end_with_the_first_of_what_they_depend_on(server: Server) -> None:
    holder, soon, later = alice(server.grid), days_ago(-0.5), days_ago(-1)
    both = carrying(holder, server.ac(holder, ends=later), server.ac(holder, ends=soon))
    assert server.seen(both).attributes.ends == soon
    end = days_ago(-0.2).replace(microsecond=0)
    given = carrying(holder, minted(host_of(server.grid.root, ends=end), holder.certificate))
    assert server.seen(given).attributes.ends == end


def test_a_cas_chain_of_two(server: Server) -> None:
    holder, below = alice(server.grid), host_of(server.grid.intermediate)
    given = minted(below, holder.certificate, certificates=[below.certificate, *below.chain])
    names = [below.dn, "/O=Grid/CN=intermediate CA", "/O=Grid/CN=root CA"]
    for lines in (names, names[:2], ["# a comment", "", *names]):
        server.write_lsc(*lines)
        assert server.seen(carrying(holder, given)).attributes.fqans == BOTH
    pairs = [names[0], names[1], names[1], names[2]]
    server.write_lsc(*pairs)
    assert server.seen(carrying(holder, given)).attributes.fqans == BOTH
    alone = carrying(holder, minted(below, holder.certificate))
    assert server.seen(alone).attributes.fqans == BOTH  # the CA directory has the CA between
    server.write_lsc(names[0], names[2])
    assert "LSC file" in refused(server, carrying(holder, given))


def test_a_ca_that_may_have_none_below(server: Server) -> None:
    narrow = (x509.BasicConstraints(ca=True, path_length=0), True)
    subject = pki.name(("O", "Grid"), ("CN", "narrow CA"))
    issuer, own = server.grid.root, key("narrow")
    first = Authority(
        certificate=certificate(
            subject,
            issuer.certificate.subject,
            public=own,
            signer=issuer.key,
            extensions=(narrow, CA_USE),
        ),
        key=own,
    )
    lower = pki.name(("O", "Grid"), ("CN", "lower CA"))
    second = Authority(
        certificate=certificate(
            lower, subject, public=key("lower"), signer=own, extensions=(IS_CA, CA_USE)
        ),
        key=key("lower"),
    )
    for one in (first, second):
        server.grid._write(one)
    holder, below = alice(server.grid), host_of(second)
    shown = [below.certificate, second.certificate, first.certificate]
    server.write_lsc(below.dn, "/O=Grid/CN=lower CA")
    given = minted(below, holder.certificate, certificates=shown)
    assert "too many CAs below /O=Grid/CN=narrow CA" in refused(server, carrying(holder, given))


def test_several_chains_in_a_file(server: Server) -> None:
    holder = alice(server.grid)
    given = carrying(holder, server.ac(holder))
    right = (server.credential.dn, "/O=Grid/CN=root CA")
    server.write_lsc("/O=Old/CN=voms", "/O=Old/CN=CA", "------ NEXT CHAIN ------", *right)
    assert server.seen(given).attributes.fqans == BOTH
    server.write_lsc(right[0], "/O=Old/CN=CA", "------ NEXT CHAIN ------", "/O=x/CN=y", right[1])
    assert "LSC file" in refused(server, given)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no names"),
        (b"/O=Grid/CN=voms\n", "expected the names"),
        (b"/O=Grid/CN=voms\n------ NEXT CHAIN ------\n/O=Grid/CN=CA\n", "expected the names"),
        (b"O=Grid, CN=voms\nO=Grid, CN=CA\n", "expected the names"),
        (b"/O=Grid/CN=\xff\n/O=Grid/CN=CA\n", "ascii"),
        (b"#" * (vomsdir.LARGEST + 1), "larger than"),
    ],
)
def test_a_broken_lsc_file(server: Server, content: bytes, problem: str) -> None:
    holder = alice(server.grid)
    (server.vomsdir / "skao" / f"{HOST}.lsc").write_bytes(content)
    reason = refused(server, carrying(holder, server.ac(holder)))
    assert re.search(f"VO skao: the LSC file of {HOST} is broken: .*{problem}", reason)
    assert str(server.vomsdir) not in reason


def test_names_of_old_lsc_files() -> None:
    (chain,) = vomsdir.parse(b'"/C=x/CN=y/Email=a@b"\n/C=x/USERID=z\n')
    assert chain == ("/C=x/CN=y/emailAddress=a@b", "/C=x/UID=z")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/skao/Role=NULL/Capability=NULL", "/skao"),
        ("/skao/Role=NULL", "/skao"),
        ("/skao/a.b/c-d/Role=x_1/Capability=NULL", "/skao/a.b/c-d/Role=x_1"),
        ("/skao/Capability=y", "/skao/Capability=y"),
        ("/skao/Role=NULLs", "/skao/Role=NULLs"),
    ],
)
def test_meaningless_parts_are_left_out(given: str, expected: str) -> None:
    assert fqan.normal(given) == expected
    assert fqan.normal(expected) == expected


@pytest.mark.parametrize(
    "given",
    ["", "/", "skao", "/skao/", "//skao", "/skao\n", "/skao/Role=", "/skao/Role=a/b",
     "/skao/Role=a/Role=b", "/skao/x=y", "/sk ao", "/skao/*", "/skaö", "/" + "a" * 255],
)  # fmt: skip
def test_what_is_no_fqan(given: str) -> None:
    with pytest.raises(ValueError, match="not an FQAN"):
        fqan.normal(given)


@pytest.mark.parametrize(
    ("pattern", "matched", "not_matched"),
    [
        ("/skao", ["/skao"], ["/skao/a", "/skaoo", "/skao/Role=a", ""]),
        ("/skao/Role=NULL", ["/skao"], ["/skao/Role=a"]),
        ("/skao/*", ["/skao/a", "/skao/a.b"], ["/skao", "/skao/a/b", "/skao/Role=a"]),
        ("/skao/a?", ["/skao/ab"], ["/skao/a", "/skao/abc"]),
        ("/skao/*/Role=prod*", ["/skao/a/Role=production"], ["/skao/Role=prod", "/skao/a/b"]),
        ("/skao/Role=*", ["/skao/Role=a"], ["/skao", "/skao/a/Role=a"]),
        ("/skao/**", ["/skao/a", "/skao/a/b/Role=c", "/skao/Role=a"], ["/skao", "/skaoo/a"]),
    ],
)
def test_patterns(pattern: str, matched: list[str], not_matched: list[str]) -> None:
    matches = fqan.compiled(pattern)
    assert [one for one in (*matched, *not_matched) if matches(one)] == matched


@pytest.mark.parametrize(
    "pattern",
    ["", "/", "/*", "/*/Role=production", "/sk?o", "/**", "/skao/**/Role=a", "/skao**", "skao",
     "/skao/Role=a/b", "/skao\n", "/skao/a b"],
)  # fmt: skip
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match="expected an FQAN"):
        fqan.compiled(pattern)


def test_a_loop_of_two_cas_is_refused(server: Server) -> None:
    """Two certificates of self-made CAs that have issued each other."""
    names = [pki.name(("O", "Grid"), ("CN", f"loop {n}")) for n in (0, 1)]
    keys = [key("loop 0"), key("loop 1")]
    loop = [
        certificate(names[n], names[1 - n], public=keys[n], signer=keys[1 - n],
                    extensions=(IS_CA, CA_USE))
        for n in (0, 1)
    ]  # fmt: skip
    holder, below = alice(server.grid), host_of(Authority(certificate=loop[0], key=keys[0]))
    given = minted(below, holder.certificate, certificates=[below.certificate, *loop])
    assert "no trusted CA" in refused(server, carrying(holder, given))


def test_no_key_is_used_before_a_ca_signature_on_it_is_verified(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Public exponents as long as their keys make a signature a matter of milliseconds."""
    middle = pki.name(("O", "Grid"), ("CN", "made up"))
    made_up = certificate(
        middle, server.grid.root.certificate.subject, public=key("made up"),
        signer=key("impostor"), extensions=(IS_CA, CA_USE),
    )  # fmt: skip
    holder = alice(server.grid)
    below = host_of(Authority(certificate=made_up, key=key("made up")))
    used: list[str] = []
    plain = verification._issued

    def issued(link: ChainLink, authority: ChainLink) -> bool:
        used.append(authority.dn)
        return plain(link, authority)

    monkeypatch.setattr(verification, "_issued", issued)
    given = minted(below, holder.certificate, certificates=[below.certificate, made_up])
    assert "is not trusted" in refused(server, carrying(holder, given))
    root = server.grid.root.certificate
    given = minted(below, holder.certificate, certificates=[below.certificate, made_up, root])
    reason = refused(server, carrying(holder, given))
    assert "/O=Grid/CN=made up was not issued by /O=Grid/CN=root CA" in reason
    assert set(used) == {"/O=Grid/CN=root CA"}


def test_the_length_of_a_reason_is_bounded(server: Server) -> None:
    holder = alice(server.grid)
    long = user(server.grid.no_crl, subject=name_of(*("x" * 64 for _ in range(16))))
    given = minted(long, holder.certificate)
    assert len(refused(server, carrying(holder, *[given] * 8))) == 500


def test_the_costliest_extension_is_parsed_quickly() -> None:
    many = der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, b"\x30\x00" * 30_000))
    nested = b""
    for _ in range(10_000):
        nested = der.encode(der.SEQUENCE, nested)[: attribute_certificate.LARGEST]
    started = time.process_time()
    for value in (many, nested, b"\x30\x84" * 30_000, bytes(attribute_certificate.LARGEST)):
        with pytest.raises(ValueError, match=r"."):
            attribute_certificate.parse(value)
    assert time.process_time() - started < 1
