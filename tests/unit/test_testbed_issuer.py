"""The testbed's issuer of tokens: whom it gives what, and how its keys change."""

from __future__ import annotations

import json
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from deliv_testbed import pki
from deliv_testbed.issuer.grants import GrantError, Grants
from deliv_testbed.issuer.keys import SKEW, KeyRing
from deliv_testbed.issuer.settings import Client, IssuerSettings

from deliv import config
from deliv.errors import TokenRefused
from deliv.identity.tokens import Keys, Token, TokenChecker
from deliv.identity.x509.certificates import thumbprint

AUTHORITY = pki.Authority.create()
STAGER = AUTHORITY.issue(pki.user_name("stager"))
OTHER = AUTHORITY.issue(pki.user_name("other"))
LIFETIME = 300
FORM = {"grant_type": "client_credentials", "client_id": "stager"}
CHECKER = TokenChecker(
    config.CallbackToken(
        issuer="https://issuer",
        audience="deliv",
        scope="report",
        jwks_url=config.HttpsUrl("https://issuer/jwks"),
        algorithms=("ES256",),
        bound=True,
    )
)


class Clock:
    """Of the keys; tokens are dated by the real one."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ring(path: Path, clock: Clock) -> KeyRing:
    return KeyRing(path / "keys.json", lifetime=LIFETIME, rotate_every=86400, clock=clock)


def der(credential: pki.Credential) -> bytes:
    return credential.certificate.public_bytes(Encoding.DER)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(tmp_path: Path, clock: Clock) -> KeyRing:
    return ring(tmp_path, clock)


@pytest.fixture
def grants(tmp_path: Path, keys: KeyRing) -> Grants:
    client = Client(dn=STAGER.dn, scopes=("report", "look"), audiences=("deliv", "other"))
    none = tmp_path / "none"
    settings = IssuerSettings(
        host="",
        port=0,
        certificate=none,
        key=none,
        ca_directory=none,
        issuer="https://issuer",
        state=tmp_path,
        clients={"stager": client},
        lifetime=LIFETIME,
    )
    return Grants(settings, keys)


def checked(answer: dict[str, object], keys: KeyRing, holder: pki.Credential = STAGER) -> Token:
    published = Keys.parse(json.dumps(keys.jwks()).encode())
    token = str(answer["access_token"])
    return CHECKER.check(token, published, thumbprint=thumbprint(der(holder)))


def refused(grants: Grants, certificate: bytes | None, **form: Any) -> GrantError:
    with pytest.raises(GrantError) as caught:
        grants.grant(FORM | form, certificate)
    return caught.value


def test_deliv_takes_its_tokens(grants: Grants, keys: KeyRing) -> None:
    answer = grants.grant(FORM | {"scope": "report", "resource": "deliv"}, der(STAGER))
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", LIFETIME)
    assert answer["scope"] == "report"
    assert checked(answer, keys).client_id == "stager"
    with pytest.raises(TokenRefused, match="another certificate"):
        checked(answer, keys, holder=OTHER)


def test_without_wishes_all_there_is(grants: Grants, keys: KeyRing) -> None:
    answer = grants.grant(FORM, der(STAGER))
    assert answer["scope"] == "report look"
    checked(answer, keys)


@pytest.mark.parametrize(
    ("form", "code", "status"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type", 400),
        ({"client_id": "other"}, "invalid_client", 401),
        ({"client_id": ""}, "invalid_client", 401),
        ({"scope": "report admin"}, "invalid_scope", 400),
        ({"resource": "elsewhere"}, "invalid_target", 400),
    ],
)
def test_what_it_does_not_give(
    grants: Grants, form: dict[str, str], code: str, status: int
) -> None:
    error = refused(grants, der(STAGER), **form)
    assert (error.code, error.status) == (code, status)


def test_only_to_the_clients_certificate(grants: Grants) -> None:
    namesake = AUTHORITY.issue(pki.user_name("stager"))
    grants.grant(FORM, der(namesake))  # TLS has verified it: the name counts
    proxy = STAGER.proxy(lifetime=timedelta(hours=1))
    for certificate in (None, der(OTHER), der(proxy)):
        assert refused(grants, certificate).code == "invalid_client"


def test_a_changed_key_leaves_the_tokens_of_the_last_one_good(
    grants: Grants, keys: KeyRing, clock: Clock
) -> None:
    old = grants.grant(FORM, der(STAGER))
    keys.rotate()
    new = grants.grant(FORM, der(STAGER))
    for answer in (old, new):
        checked(answer, keys)
    clock.now += LIFETIME + SKEW + 1
    keys.rotate()
    checked(new, keys)
    with pytest.raises(TokenRefused, match="does not publish"):
        checked(old, keys)


def test_a_key_changes_by_itself(grants: Grants, keys: KeyRing, clock: Clock) -> None:
    (first,) = kids(keys)
    clock.now += 86401
    grants.grant(FORM, der(STAGER))
    assert len(kids(keys)) == 2
    assert kids(keys)[0] == first


def kids(keys: KeyRing) -> list[str]:
    published: Any = keys.jwks()["keys"]
    return [one["kid"] for one in published]


def test_keys_outlive_the_process_and_are_told_nobody(
    tmp_path: Path, keys: KeyRing, clock: Clock
) -> None:
    keys.rotate()
    assert kids(ring(tmp_path, clock)) == kids(keys)
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600
    assert '"d"' not in json.dumps(keys.jwks())
