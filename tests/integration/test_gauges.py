"""What every instance shows in its metrics, whether or not it has a lease."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cryptography import x509
from prometheus_client import REGISTRY
from support.samples import LIMITS, admitted, staged, submitted

from deliv.config import CredentialFiles, StagingLimits
from deliv.errors import Unavailable
from deliv.gateways.https import HttpsClient
from deliv.identity.tls import ServerTls
from deliv.identity.x509 import dn
from deliv.store import Store
from deliv.tasks.gauges import Gauges
from integration.scripted_fts import Grid

CERTIFICATE, CRL = "deliv_certificate_end_timestamp_seconds", "deliv_crl_end_timestamp_seconds"


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return Grid(tmp_path)


def gauges(store: Store, grid: Grid, credential: CredentialFiles | None = None) -> Gauges:
    host = grid.host_credential
    tls = ServerTls(host.certificate, host.key, grid.ca_directory)
    https = HttpsClient(credential or grid.credential, grid.ca_directory)
    return Gauges(store, tls, lambda: https.credential[0], StagingLimits())


async def test_jobs_are_counted_without_a_lease(store: Store, grid: Grid) -> None:
    here = gauges(store, grid)
    await admitted(store)
    await submitted(store)
    await here.count_once()
    assert {status: jobs(status) for status in ("SUBMITTED", "STAGING", "ERROR")} == {
        "SUBMITTED": 1,
        "STAGING": 1,
        "ERROR": 0,
    }


async def test_what_is_under_way_is_counted(store: Store, grid: Grid) -> None:
    job = await staged(store, product_id="a")
    await store.update(job, product_size=5)
    await store.join_fts_queue(await staged(store, product_id="b"), 60)
    await admitted(store)
    placed = await store.give_fts_place(LIMITS)
    assert placed is not None
    await store.join_fts_queue(await staged(store, product_id="c"), 60)
    for _ in range(2):
        await store.enter_staging(await admitted(store, product_id="shared"), 60)
    await gauges(store, grid).count_once()
    expected = {"asked": 3, "staged": 3}
    assert {state: value("deliv_staging_jobs", state=state) for state in expected} == expected
    guess = 4 * StagingLimits().bytes_per_product
    expected = {"reported": 5, "expected": guess}
    assert {size: value("deliv_staging_bytes", size=size) for size in expected} == expected
    expected = {"placed": 1, "waiting": 1}
    assert {state: value("deliv_fts_jobs", state=state) for state in expected} == expected


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def jobs(status: str) -> float | None:
    return REGISTRY.get_sample_value("deliv_jobs", {"status": status})


async def test_when_certificates_and_lists_end(store: Store, grid: Grid) -> None:
    (crl,) = grid.ca_directory.glob("*.r0")
    crl_end = x509.load_pem_x509_crl(crl.read_bytes()).next_update_utc
    gauges(store, grid).show_ends()
    assert crl_end
    assert REGISTRY.get_sample_value(CRL, {"file": crl.name}) == crl_end.timestamp()
    for of, credential in (("rest", grid.host), ("credential", grid.robot)):
        end = credential.certificate.not_valid_after_utc.timestamp()
        assert REGISTRY.get_sample_value(CERTIFICATE, {"of": of}) == end


async def test_a_list_that_is_gone_or_broken_is_not_shown(store: Store, grid: Grid) -> None:
    (crl,) = grid.ca_directory.glob("*.r0")
    other = crl.with_suffix(".r1")
    shutil.copy(crl, other)
    here = gauges(store, grid)
    here.show_ends()
    assert REGISTRY.get_sample_value(CRL, {"file": other.name})
    other.unlink()
    crl.write_text("broken")
    gauges(store, grid).show_ends()
    assert REGISTRY.get_sample_value(CRL, {"file": other.name}) is None
    assert REGISTRY.get_sample_value(CRL, {"file": crl.name}) is None


async def test_a_list_that_is_missing_before_another_is_shown(store: Store, grid: Grid) -> None:
    (crl,) = grid.ca_directory.glob("*.r0")
    (authority,) = x509.load_pem_x509_certificates(crl.with_suffix(".0").read_bytes())
    missing = {"file": crl.name, "ca": dn.oneline(authority.subject)}
    gauges(store, grid).show_ends()
    assert REGISTRY.get_sample_value("deliv_crl_missing", missing) is None
    crl.rename(crl.with_suffix(".r1"))
    gauges(store, grid).show_ends()
    assert REGISTRY.get_sample_value("deliv_crl_missing", missing) == 1


async def test_a_missing_credential_hides_nothing_else(store: Store, grid: Grid) -> None:
    absent = CredentialFiles(certificate=Path("/nowhere/cert.pem"), key=Path("/nowhere/key.pem"))
    here = gauges(store, grid, absent)
    with pytest.raises(Unavailable):
        here._certificates["credential"]()
    here.show_ends()
    assert REGISTRY.get_sample_value(CERTIFICATE, {"of": "rest"})
