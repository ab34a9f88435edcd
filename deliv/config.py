"""deliv's configuration: one YAML file, typed, unknown keys refused with their path.

config/deliv.example.yaml explains every key. Durations and sizes carry units ("30s", "64KiB");
secrets are in files of their own, named by a key that ends in `_file`.
"""

from __future__ import annotations

import os
import re
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec

from deliv import documents
from deliv.errors import ConfigError
from deliv.model.backoff import Backoff
from deliv.model.error_classes import ErrorClass
from deliv.model.rest import RestRules

DEFAULT_PATH = Path("/etc/deliv/deliv.yaml")
CREDENTIALS = "$CREDENTIALS_DIRECTORY"  # where systemd's LoadCredential puts them
DURATION_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
# RFC 7518: by RSA keys (RS, PS) or the curves P-256, P-384, P-521 (ES). No secrets that both ends
# share (HS), and never "none".
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"
]  # fmt: skip
DEFAULT_ALGORITHMS: tuple[Algorithm, ...] = ("RS256", "PS256", "ES256")
LONGEST_PAUSE = 86400.0  # seconds between two attempts
SIZE_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


class Seconds(float):
    """A duration in seconds, written with a unit: 500ms, 30s, 5m, 24h, 7d."""


class Bytes(int):
    """A size in bytes, written with a unit: 512B, 64KiB, 16MiB, 2GiB, 1TiB."""


class Address(str):
    """An address to listen on, HOST:PORT; an IPv6 host in brackets."""

    @property
    def host(self) -> str:
        return self.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.rpartition(":")[2])


class HttpsUrl(str):
    """An https URL without a trailing slash."""


Positive = Annotated[int, msgspec.Meta(ge=1)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class CredentialFiles(Section, frozen=True, kw_only=True):
    """A certificate (or proxy) file and its private key; both may be the same file."""

    certificate: Path
    key: Path


class Rest(Section, frozen=True, kw_only=True):
    listen: Address
    public_url: HttpsUrl
    certificate: Path
    key: Path
    body_limit: Bytes = Bytes(64 * 2**10)
    header_limit: Bytes = Bytes(16 * 2**10)
    connections: Positive = 2000
    connections_per_address: Positive = 1000
    handshakes: Positive = 200
    handshake_timeout: Seconds = Seconds(10)
    handshake_cpu_per_second: Seconds = Seconds(0.1)
    handshake_cpu_burst: Seconds = Seconds(1)
    idle_timeout: Seconds = Seconds(60)
    body_timeout: Seconds = Seconds(30)
    requests_per_second: Annotated[float, msgspec.Meta(gt=0)] = 500
    requests_burst: Positive = 2000
    requests_at_once: Positive = 500
    drain: Seconds = Seconds(20)


class Account(Section, frozen=True, kw_only=True):
    user: str
    password_file: Path

    def password(self) -> str:
        return secret(self.password_file)


class DatabaseSettings(Account, frozen=True, kw_only=True):
    host: str
    port: int = 3306
    name: str = "deliv"
    ca_file: Path | None = None
    pool: Annotated[int, msgspec.Meta(ge=2)] = 8
    waiting: Positive = 500
    connect_timeout: Seconds = Seconds(5)
    statement_timeout: Seconds = Seconds(30)
    clock_settling: Seconds = Seconds(600)
    migrations: Account | None = None

    def __post_init__(self) -> None:
        _check_encrypted("database", self.host, self.ca_file)

    @property
    def share(self) -> int:
        """Connections that one caller has at most; as many are kept for deliv's own work."""
        return max(1, self.pool // 4)


class BrokerSettings(Account, frozen=True, kw_only=True):
    host: str
    port: int = 5672
    vhost: str = "/"
    ca_file: Path | None = None
    prefetch: int = 16
    heartbeat: Seconds = Seconds(30)
    delivery_limit: int = 10

    def __post_init__(self) -> None:
        _check_encrypted("broker", self.host, self.ca_file)


class CallbackToken(Section, frozen=True, kw_only=True):
    """The OAuth2 access token that the stager sends. `keep`: how long its issuer may be down.

    `ca_file` None: the JWKS server is trusted by the CAs in `ca_directory`.
    """

    issuer: str
    audience: str
    scope: str
    jwks_url: HttpsUrl
    ca_file: Path | None = None
    algorithms: Annotated[tuple[Algorithm, ...], msgspec.Meta(min_length=1)] = DEFAULT_ALGORITHMS
    bound: bool = False
    clock_skew: Seconds = Seconds(60)
    refresh: Seconds = Seconds(300)
    keep: Seconds = Seconds(6 * 3600)


class Callback(Section, frozen=True, kw_only=True):
    """How the stager shows who it is, beside the one-time code; and how much it may report.

    `body_limit` is for a report with a list of `files`, of which there may be so many.
    """

    certificate: bool = True
    token: CallbackToken | None = None
    body_limit: Bytes = Bytes(16 * 2**20)
    files: Positive = 100_000

    def __post_init__(self) -> None:
        if not self.certificate and self.token is None:
            raise ValueError("certificate or token: a one-time code alone is not enough")


class StagerSettings(Section, frozen=True, kw_only=True):
    url: HttpsUrl
    gridftp_hosts: tuple[str, ...]
    timeout: Seconds = Seconds(24 * 3600)
    request_timeout: Seconds = Seconds(30)
    callback: Callback = Callback()


class FtsSettings(Section, frozen=True, kw_only=True):
    endpoints: Mapping[str, HttpsUrl]
    request_timeout: Seconds = Seconds(30)
    poll_every: Seconds = Seconds(5)
    reconcile_every: Seconds = Seconds(300)
    misses: int = 3
    delegation: Seconds = Seconds(24 * 3600)
    renew_below: Seconds = Seconds(4 * 3600)
    max_time_in_queue: str = "24h"
    files_per_transfer: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 200
    bytes_per_transfer: Bytes = Bytes(2**40)

    @property
    def patience(self) -> float:
        """Seconds after which a transfer that FTS does not show is not waited for any more."""
        return self.misses * self.reconcile_every


class DelegationSettings(Section, frozen=True, kw_only=True):
    """Users may delegate a credential to deliv, which copies their products under their identity.

    `key_file`: see deliv/identity/sealing.py.
    """

    key_file: Path
    least_life: Seconds = Seconds(3600)
    warn_below: Seconds = Seconds(4 * 3600)
    every: Seconds = Seconds(30)


class GridFtpSettings(Section, frozen=True, kw_only=True):
    """deliv reads files at destinations itself, `at_once` at most, for `timeout` each.

    `python`: an interpreter that has gfal2.
    """

    python: Path = Path("/usr/bin/python3")
    timeout: Seconds = Seconds(900)
    at_once: Positive = 4


class Caps(Section, frozen=True, kw_only=True):
    """How many jobs may be in a queue at once: in all, and of one submitter or to one host."""

    in_flight: int = 200
    per_submitter: int = 100
    per_destination: int = 100
    per_submitter_and_destination: int = 50


class StagingLimits(Caps, frozen=True, kw_only=True):
    """What the archive may be asked for at once: see deliv/store/admission.py.

    `bytes` are those of the copies that it was asked for and that are not given back, each once for
    all its jobs, None: any number; `bytes_per_product` at least where none is reported yet.
    """

    in_flight: int = 2000
    per_submitter: int = 1000
    per_destination: int = 1000
    per_submitter_and_destination: int = 750
    bytes: Bytes | None = None
    bytes_per_product: Bytes = Bytes(10 * 2**30)

    def __post_init__(self) -> None:
        if self.bytes == 0:
            raise ValueError("bytes must not be 0: without it there may be any number")


class Limits(Caps, frozen=True, kw_only=True):
    """What FTS may have at once: see deliv/store/fts_queue.py; and what the archive, `staging`.

    `files_per_pair`: files at FTS at once between a stager and a destination, more where FTS copies
    more at once; `bytes_per_pair` are shared by the submitters who have files there or wait: see
    deliv/model/turns.py. `patience`: how long a job waits for what is not its fault,
    `patience_new` where nothing was ever delivered to its server.
    """

    files_per_pair: Positive = 400
    bytes_per_pair: Bytes = Bytes(4 * 2**40)
    staging: StagingLimits = StagingLimits()
    patience: Seconds = Seconds(7 * 86400)
    patience_new: Seconds = Seconds(3600)

    def __post_init__(self) -> None:
        if not self.bytes_per_pair:
            raise ValueError("bytes_per_pair must not be 0")


class Rests(Section, frozen=True, kw_only=True):
    """When a destination rests, and how it is tried again: see deliv/model/rest.py."""

    after: Positive = 3
    first_pause: Seconds = Seconds(60)
    longest_pause: Seconds = Seconds(1800)
    keep_staged: Seconds = Seconds(3600)

    def __post_init__(self) -> None:
        if not 0 < self.first_pause <= self.longest_pause:
            raise ValueError("first_pause must not be 0, nor longer than longest_pause")


class Retry(Section, frozen=True, kw_only=True):
    """`attempts` in all, the first included; waits `backoff`, doubled each time up to a day."""

    attempts: int = 1
    backoff: Seconds = Seconds(60)

    @property
    def pauses(self) -> Backoff:
        return Backoff(float(self.backoff), LONGEST_PAUSE)


class Sweeps(Section, frozen=True, kw_only=True):
    """`stuck`: a run of periodic work that takes longer makes the watchdog end the process."""

    every: Seconds = Seconds(10)
    lease: Seconds = Seconds(30)
    hold: Seconds = Seconds(60)
    ask_again: Seconds = Seconds(10)
    batch: int = 100
    stuck: Seconds = Seconds(900)


class RetentionSettings(Section, frozen=True, kw_only=True):
    """When final jobs are archived and forgotten. `forget_after` None: archived jobs are kept."""

    every: Seconds = Seconds(60)
    batch: int = 500
    archive_after: Seconds = Seconds(30 * 86400)
    forget_after: Seconds | None = None
    keys: Seconds = Seconds(30 * 86400)
    outbox: Seconds = Seconds(86400)

    def __post_init__(self) -> None:
        if self.forget_after and self.forget_after < max(self.archive_after, self.keys):
            raise ValueError("forget_after must not be shorter than archive_after or keys")


class Log(Section, frozen=True, kw_only=True):
    level: str = "info"
    format: str = "json"


class Audit(Section, frozen=True, kw_only=True):
    """`file` None: standard error."""

    file: Path | None = None


NEVER = Retry()
TRANSIENT = Retry(attempts=4, backoff=Seconds(60))
DEFAULT_RETRIES = {
    ErrorClass.TIMEOUT: TRANSIENT,
    ErrorClass.SOURCE_MISSING: Retry(attempts=2, backoff=Seconds(60)),
    ErrorClass.CHECKSUM: Retry(attempts=2, backoff=Seconds(60)),
    ErrorClass.CREDENTIAL: TRANSIENT,
    ErrorClass.CANCELLED: TRANSIENT,
    ErrorClass.OTHER: Retry(attempts=2, backoff=Seconds(60)),
}


class Config(Section, frozen=True, kw_only=True):
    rest: Rest
    monitoring: Address = Address("127.0.0.1:9091")
    ca_directory: Path = Path("/etc/grid-security/certificates")
    crl: Literal["hard", "soft"] = "hard"
    vomsdir: Path | None = None
    credential: CredentialFiles
    policy: Path
    database: DatabaseSettings
    broker: BrokerSettings
    stager: StagerSettings
    fts: FtsSettings
    delegation: DelegationSettings | None = None
    gridftp: GridFtpSettings | None = GridFtpSettings()
    limits: Limits = Limits()
    retries: Mapping[ErrorClass, Retry] = {}
    rests: Rests = Rests()
    sweeps: Sweeps = Sweeps()
    retention: RetentionSettings = RetentionSettings()
    log: Log = Log()
    audit: Audit = Audit()
    faults: Path | None = None

    def __post_init__(self) -> None:
        at_once, waiting = self.rest.requests_at_once, self.database.waiting
        if at_once > self.database.share + waiting:
            raise ValueError(
                f"rest.requests_at_once must not be more than what the database takes of one "
                f"caller: {at_once} is more than {self.database.share} connections (a quarter of "
                f"database.pool) and {waiting} calls that wait (database.waiting)"
            )

    def retry(self, error_class: ErrorClass) -> Retry:
        """How often and when deliv tries again after a failure of this class."""
        return self.retries.get(error_class) or DEFAULT_RETRIES.get(error_class, NEVER)

    @property
    def rest_rules(self) -> RestRules:
        rests, limits = self.rests, self.limits
        return RestRules(
            after=rests.after,
            pauses=Backoff(float(rests.first_pause), float(rests.longest_pause)),
            keep_staged=float(rests.keep_staged),
            patience=float(limits.patience),
            patience_new=float(limits.patience_new),
            least_life=float(self.delegation.least_life) if self.delegation else None,
        )


def instance(settings: Config, number: int) -> Config:
    """The configuration of one of several instances: each has a monitoring port of its own."""
    host, port = settings.monitoring.rsplit(":", 1)
    return msgspec.structs.replace(settings, monitoring=Address(f"{host}:{int(port) + number}"))


def add_option(parser: ArgumentParser) -> None:
    """A command's option for the file to read; see `find`."""
    parser.add_argument(
        "--config", metavar="FILE", help=f"default: DELIV_CONFIG, else {DEFAULT_PATH}"
    )


def find(option: str | None, environ: Mapping[str, str] = os.environ) -> Path:
    """The file to read: `--config`, else DELIV_CONFIG, else /etc/deliv/deliv.yaml."""
    return Path(option or environ.get("DELIV_CONFIG") or DEFAULT_PATH)


def load(path: Path) -> Config:
    """Read and check one file; ConfigError names the file and the key that is wrong."""
    try:
        return documents.parse(
            path.read_text(encoding="utf-8"), Config, lambda kind, value: READERS[kind](value)
        )
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def secret(path: Path) -> str:
    """The secret in a file, without the line end."""
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the secret file {path} can't be read: {error}") from error


def _check_encrypted(section: str, host: str, ca_file: Path | None) -> None:
    """ValueError for a connection that would carry a password over a network in the clear."""
    if ca_file is None and not _is_loopback(host):
        raise ValueError(
            f"{section}.ca_file: {host} is not this machine, so the connection must be encrypted: "
            "name the CA certificate of its server (null only for localhost, 127.0.0.0/8, ::1)"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _path(value: object) -> Path:
    if isinstance(value, str) and value.startswith(f"{CREDENTIALS}/"):
        directory = os.environ.get(CREDENTIALS[1:], "/run/credentials")
        return Path(directory + value.removeprefix(CREDENTIALS))
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValueError(f"expected an absolute path or {CREDENTIALS}/NAME, got {value!r}")
    return Path(value)


def _quantity(value: object, units: Mapping[str, float], expected: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", str(value))
    if not match or match[2] not in units:
        raise ValueError(f"expected {expected}, got {value!r}")
    return float(match[1]) * units[match[2]]


def _address(value: object) -> Address:
    pattern = r"(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}"
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise ValueError(f"expected HOST:PORT, got {value!r}")
    return Address(value)


def _https_url(value: object) -> HttpsUrl:
    if not isinstance(value, str) or not re.fullmatch(r"https://[^\s/]+(/\S*)?", value):
        raise ValueError(f"expected an https:// URL, got {value!r}")
    return HttpsUrl(value.rstrip("/"))


def _seconds(value: object) -> Seconds:
    return Seconds(_quantity(value, DURATION_UNITS, "a duration like 500ms, 30s, 5m, 24h, 7d"))


def _bytes(value: object) -> Bytes:
    return Bytes(_quantity(value, SIZE_UNITS, "a size like 512B, 64KiB, 16MiB, 2GiB"))


# How each type of value is read that YAML does not have.
READERS: Mapping[type, Callable[[object], object]] = MappingProxyType(
    {
        Path: _path,
        Seconds: _seconds,
        Bytes: _bytes,
        Address: _address,
        HttpsUrl: _https_url,
    }
)
