"""Delegation to deliv on a real MariaDB: keys sealed, proxies taken, used, announced and wiped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from deliv_testbed.pki import Credential
from support.credentials import ALICE, Grid, alice, full, key, user
from support.private_mariadb import Server
from support.samples import BOB, submitted, transferring

from deliv import config
from deliv.db.database import Database
from deliv.delivery.delegation import CredentialDelegation, decide
from deliv.delivery.endpoints import EndpointResolver
from deliv.errors import Conflict, Forbidden, InvalidRequest, NoCredential, Unavailable
from deliv.gateways.fts import Fts
from deliv.gateways.fts.users import IDLE, MOST, UserEndpoints
from deliv.gateways.https import HeldCredential, HttpsClient
from deliv.identity.policy_rules import CopyAs
from deliv.identity.sealing import KeySealer
from deliv.identity.x509.chain import Identity, identify
from deliv.identity.x509.signing_policy import SigningPolicies
from deliv.model.job import Job, TransferIdentity, delegation_id
from deliv.store import Delegations, Fence, Store

VAULT = KeySealer([b"k" * 32])
SETTINGS = config.DelegationSettings(key_file=Path("/none"))


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    return Grid.create(tmp_path_factory.mktemp("grid") / "certificates")


@pytest.fixture
def delegations(database: Database) -> Delegations:
    return Delegations(database)


@pytest.fixture
def delegating(delegations: Delegations) -> CredentialDelegation:
    return CredentialDelegation(delegations, VAULT, SETTINGS)


def identified(grid: Grid) -> Any:
    def run(chain: list[bytes]) -> Identity:
        return identify(chain, now=datetime.now(UTC), policies=SigningPolicies(grid.directory))

    return run


def signed(request: str, shown: Credential, **changes: Any) -> Credential:
    """The proxy that a client makes of a request; its key is deliv's."""
    public = x509.load_pem_x509_csr(request.encode()).public_key()
    return full(shown, key=_Public(public), **changes)


class _Public:
    """Stands in for a key of which only the public part is known."""

    def __init__(self, public: Any) -> None:
        self._public = public

    def public_key(self) -> Any:
        return self._public


async def delegate(
    delegating: CredentialDelegation, grid: Grid, hours: float = 8, shown: Credential | None = None
) -> Credential:
    shown = shown or alice(grid)
    ends = datetime.now(UTC) + timedelta(hours=hours)
    made = signed(await delegating.request(ALICE), shown, ends=ends)
    await bring(delegating, grid, made, shown)
    return made


async def bring(
    delegating: CredentialDelegation,
    grid: Grid,
    made: Credential,
    shown: Credential,
    dn: str = ALICE,
) -> None:
    await delegating.accept(dn, made.certificate_pem(), grid.chain(shown), identified(grid))


async def test_what_was_delegated_can_be_used(delegating: CredentialDelegation, grid: Grid) -> None:
    made = await delegate(delegating, grid)
    held = await delegating.credential(ALICE)
    assert held.certificate == made.certificate_pem()
    private = load_pem_private_key(held.key, password=None)
    assert private.public_key() == made.certificate.public_key()
    assert "PRIVATE" not in repr(held)
    known = await delegating.held(ALICE)
    assert known is not None
    assert known.expires == made.certificate.not_valid_after_utc


async def test_the_key_is_sealed_for_its_row(
    delegating: CredentialDelegation, delegations: Delegations, grid: Grid, server: Server
) -> None:
    await delegate(delegating, grid)
    (row,) = server.run("SELECT * FROM delegations")
    assert b"PRIVATE" not in b"".join(v for v in row.values() if isinstance(v, bytes))
    with pytest.raises(NoCredential, match="can't be read"):
        await CredentialDelegation(delegations, KeySealer([b"x" * 32]), SETTINGS).credential(ALICE)
    stolen = f"UPDATE delegations SET dn = '{BOB}', delegation_id = '{delegation_id(BOB)}'"  # noqa: S608 - a test's own
    server.run(stolen)
    with pytest.raises(NoCredential, match="can't be read"):
        await delegating.credential(BOB)


async def test_a_key_of_the_vault_that_changes(
    delegating: CredentialDelegation, delegations: Delegations, grid: Grid
) -> None:
    await delegate(delegating, grid)
    after = CredentialDelegation(delegations, KeySealer([b"n" * 32, b"k" * 32]), SETTINGS)
    await after.credential(ALICE)
    await delegate(after, grid)
    with pytest.raises(NoCredential):
        await delegating.credential(ALICE)


async def test_requests_of_the_same_moment_are_one(delegating: CredentialDelegation) -> None:
    made = await asyncio.gather(*(delegating.request(ALICE) for _ in range(3)))
    assert len(set(made)) == 1
    assert await delegating.request(BOB) not in made


async def test_each_delegation_has_a_key_of_its_own(
    delegating: CredentialDelegation, grid: Grid
) -> None:
    first, second = [await delegate(delegating, grid) for _ in range(2)]
    assert first.certificate.public_key() != second.certificate.public_key()
    assert (await delegating.credential(ALICE)).certificate == second.certificate_pem()


async def test_two_clients_at_once(delegating: CredentialDelegation, grid: Grid) -> None:
    """Both have the same request; the one that comes later is the one that counts."""
    shown = alice(grid)
    request = await delegating.request(ALICE)
    first, second = signed(request, shown), signed(request, shown)
    for made in (first, second):
        await bring(delegating, grid, made, shown)
        assert (await delegating.credential(ALICE)).certificate == made.certificate_pem()


async def test_a_proxy_for_another_key(delegating: CredentialDelegation, grid: Grid) -> None:
    await delegating.request(ALICE)
    await delegating.request(BOB)
    shown, bob = alice(grid), user(grid.root, "bob", key=key("bob"))
    for made in (full(shown), signed(await delegating.request(BOB), shown)):
        with pytest.raises(InvalidRequest, match="was not asked for"):
            await bring(delegating, grid, made, shown)
    with pytest.raises(InvalidRequest):
        await bring(delegating, grid, signed(await delegating.request(ALICE), bob), bob)
    assert await delegating.held(ALICE) is None


async def test_without_a_request(delegating: CredentialDelegation, grid: Grid) -> None:
    shown = alice(grid)
    with pytest.raises(InvalidRequest, match="was not asked for"):
        await bring(delegating, grid, full(shown), shown)


@pytest.mark.parametrize(
    ("hours", "allowed", "expected"),
    [
        (8, CopyAs.EITHER, TransferIdentity.USER),
        (8, CopyAs.USER, TransferIdentity.USER),
        (8, CopyAs.SERVICE, TransferIdentity.SERVICE),
        (0.5, CopyAs.EITHER, TransferIdentity.SERVICE),
        (0.5, CopyAs.USER, None),
        (0.5, CopyAs.SERVICE, TransferIdentity.SERVICE),
        (None, CopyAs.EITHER, TransferIdentity.SERVICE),
        (None, CopyAs.USER, None),
        (None, CopyAs.SERVICE, TransferIdentity.SERVICE),
    ],
)
async def test_whose_copy_it_is(
    delegating: CredentialDelegation,
    grid: Grid,
    hours: float | None,
    allowed: CopyAs,
    expected: TransferIdentity | None,
) -> None:
    if hours:
        await delegate(delegating, grid, hours)
    if expected is None:
        with pytest.raises(Forbidden, match="delegate a credential"):
            await decide(delegating, ALICE, allowed)
    else:
        assert await decide(delegating, ALICE, allowed) is expected


async def test_where_nothing_can_be_delegated() -> None:
    assert await decide(None, ALICE, CopyAs.EITHER) is TransferIdentity.SERVICE
    with pytest.raises(Forbidden, match="can't be delegated"):
        await decide(None, ALICE, CopyAs.USER)


async def test_users_are_told_and_keys_are_wiped(
    delegating: CredentialDelegation, store: Store, grid: Grid, server: Server
) -> None:
    await delegate(delegating, grid)
    await submitted(store, submitter=ALICE, copied_as=TransferIdentity.USER)
    assert await delegating.notify_expiring() == 0
    assert await delegating.warning(ALICE) is None
    await delegate(delegating, grid, hours=2)
    assert "expires at" in (await delegating.warning(ALICE) or "")
    assert [await delegating.notify_expiring() for _ in range(2)] == [1, 0]
    number = await store.lease("delegations", "me", 60)
    fence = Fence(name="delegations", owner="me", number=number or 0)
    assert await delegating.wipe_expired(fence) == 0
    server.run("UPDATE delegations SET expires = NOW(6) - INTERVAL 1 SECOND")
    assert await delegating.held(ALICE) is None
    with pytest.raises(NoCredential):
        await delegating.credential(ALICE)
    assert await delegating.wipe_expired(fence) == 1
    assert server.run("SELECT * FROM delegations") == []
    assert "any more" in (await delegating.warning(ALICE) or "")


async def test_what_fts_copies_with_is_not_withdrawn(
    delegating: CredentialDelegation, store: Store, grid: Grid
) -> None:
    await delegate(delegating, grid)
    job = await transferring(store, submitter=ALICE, copied_as=TransferIdentity.USER)
    assert not await delegating.drop(BOB)
    await store.update(job, fts_endpoint="fts1", fts_jobid="1")
    with pytest.raises(Conflict, match="cancel"):
        await delegating.drop(ALICE)
    await store.update(await found(store, job), fts_jobid=None)
    assert await delegating.drop(ALICE)


async def found(store: Store, job: Job) -> Job:
    known = await store.job(job.job_id)
    assert known is not None
    return known


# --- the endpoints that act for users


@pytest.fixture
def users(grid: Grid) -> Iterator[UserEndpoints]:
    users = UserEndpoints(fts_settings(), grid.directory)
    yield users
    users.close()


def fts_settings() -> config.FtsSettings:
    return config.FtsSettings(endpoints={"fts1": config.HttpsUrl("https://fts.test:8446")})


def copiers(
    users: UserEndpoints, grid: Grid, delegating: CredentialDelegation | None
) -> EndpointResolver:
    fts = Fts(fts_settings(), HttpsClient(None, grid.directory))
    return EndpointResolver(fts, users, delegating)


async def test_each_job_at_the_endpoint_of_its_identity(
    delegating: CredentialDelegation, store: Store, grid: Grid, users: UserEndpoints
) -> None:
    here = copiers(users, grid, delegating)
    ours = await submitted(store)
    theirs = await submitted(store, submitter=ALICE, copied_as=TransferIdentity.USER)
    with pytest.raises(NoCredential):
        await here.acting(theirs, "fts1")
    await delegate(delegating, grid)
    first = await here.acting(theirs, "fts1")
    assert await here.acting(theirs, "fts1") is first
    assert await here.acting(ours, "fts1") is not first
    await delegate(delegating, grid)
    second = await here.acting(theirs, "fts1")
    assert second is not first
    await delegating.drop(ALICE)
    await delegate(delegating, grid)
    assert await here.acting(theirs, "fts1") not in (first, second)
    with pytest.raises(Unavailable, match="not configured any more"):
        await here.acting(theirs, "fts2")
    with pytest.raises(NoCredential, match="no credentials are delegated"):
        await copiers(users, grid, None).acting(theirs, "fts1")


async def test_of_many_users_the_latest_are_kept(grid: Grid, users: UserEndpoints) -> None:
    held = HeldCredential(certificate=b"", key=b"", expires=datetime(2100, 1, 1, tzinfo=UTC))
    first = users.get("fts1", "/CN=0", held)
    for number in range(1, MOST):
        users.get("fts1", f"/CN={number}", held)
    assert users.get("fts1", "/CN=0", held) is first
    users.get("fts1", "/CN=more", held)
    assert users.get("fts1", "/CN=0", held) is first


async def test_keys_that_are_over_or_idle_leave_the_memory(grid: Grid) -> None:
    now = [1000.0]
    users = UserEndpoints(fts_settings(), grid.directory, clock=lambda: now[0])
    later = datetime.now(UTC) + timedelta(days=1)

    def used(user: str, expires: datetime) -> object:
        held = HeldCredential(certificate=b"", key=b"", expires=expires)
        return users.get("fts1", user, held)

    now_over = datetime.now(UTC)
    fresh, over = used("/CN=fresh", later), used("/CN=over", now_over)
    assert used("/CN=over", now_over) is over
    users.tidy()
    assert used("/CN=fresh", later) is fresh
    assert used("/CN=over", now_over) is not over
    now[0] += IDLE + 1
    assert used("/CN=fresh", later) is fresh
    over = used("/CN=over", later)
    now[0] += IDLE + 1
    users.tidy()
    assert used("/CN=fresh", later) is not fresh
    assert used("/CN=over", later) is not over
    users.close()
