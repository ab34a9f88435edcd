"""The checks: each asks the server something, and says whether the answer is the right one.

Those that need a whole handshake (resumption, renegotiation) are made with the client's
certificate by Python's ssl and by the `openssl` command.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.tls_scan import hello
from tools.tls_scan.hello import Answer, Hello

TIMEOUT = 20.0
# ECDHE with AES-GCM or ChaCha20-Poly1305; RSA or ECDSA, as the server's certificate is.
GOOD_1_2 = {0xC02F, 0xC030, 0xCCA8, 0xC02B, 0xC02C, 0xCCA9}
GOOD_1_3 = {0x1301, 0x1302, 0x1303}
OLD = {
    "SSL 3.0": hello.SSL3,
    "TLS 1.0": hello.TLS1_0,
    "TLS 1.1": hello.TLS1_1,
}
NEW = {"TLS 1.2": hello.TLS1_2, "TLS 1.3": hello.TLS1_3}
WEAK_GROUPS = (1, 3, 15, 16, 18, 19, 21)  # of 160 to 224 bits
SHA1_SIGNATURES = (0x0201, 0x0203)
PROTOCOL_VERSION, INAPPROPRIATE_FALLBACK = 70, 86

Verdict = tuple[bool, str]
Check = Callable[["Target"], Verdict]


@dataclass(frozen=True, kw_only=True)
class Target:
    """`cert`: a file with a client's certificate, key and chain; `ca`: the server's CA."""

    host: str
    port: int
    cert: Path
    ca: Path

    def ask(self, offer: Hello) -> Answer:
        return hello.ask((self.host, self.port), offer.encode(), TIMEOUT)

    def context(self, version: ssl.TLSVersion) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=self.ca)
        context.load_cert_chain(self.cert)
        context.minimum_version = context.maximum_version = version
        return context


def ssl2(target: Target) -> Verdict:
    answer = hello.ask((target.host, target.port), hello.SSL2_HELLO, TIMEOUT)
    return answer.alert is not None, "not spoken" if answer.alert is not None else "spoken"


def old_protocols(target: Target) -> Verdict:
    answers = {name: target.ask(_offer(version)) for name, version in OLD.items()}
    spoken = [name for name, answer in answers.items() if answer.alert is None]
    return not spoken, f"spoken: {', '.join(spoken) or 'none'}"


def new_protocols(target: Target) -> Verdict:
    answers = {name: target.ask(_offer(version)) for name, version in NEW.items()}
    spoken = [name for name, answer in answers.items() if answer.version == NEW[name]]
    return spoken == list(NEW), f"spoken: {', '.join(spoken)}"


def suites_1_2(target: Target) -> Verdict:
    return _only(list(_suites(target, hello.TLS1_2)), GOOD_1_2)


def suites_1_3(target: Target) -> Verdict:
    return _only(list(_suites(target, hello.TLS1_3)), GOOD_1_3)


def preference(target: Target) -> Verdict:
    """The server's order counts, not the client's."""
    order = list(_suites(target, hello.TLS1_2))
    backwards = target.ask(Hello(version=hello.TLS1_2, suites=order[::-1]))
    return backwards.suite == order[0], "the server's order" if len(order) > 1 else "one suite"


def compression(target: Target) -> Verdict:
    answer = target.ask(
        Hello(version=hello.TLS1_2, suites=hello.OLD_SUITES, compressions=(1, 64, 0))
    )
    return answer.alert is None and answer.compression == 0, f"method {answer.compression}"


def heartbeat(target: Target) -> Verdict:
    answer = target.ask(Hello(version=hello.TLS1_2, suites=hello.OLD_SUITES, heartbeat=True))
    offered = hello.HEARTBEAT in answer.extensions
    return answer.alert is None and not offered, "offered" if offered else "not offered"


def secure_renegotiation(target: Target) -> Verdict:
    answer = target.ask(_offer(hello.TLS1_2))
    told = hello.RENEGOTIATION in answer.extensions
    return told, "RFC 5746 is spoken" if told else "RFC 5746 is not spoken"


def tickets(target: Target) -> Verdict:
    answer = target.ask(Hello(version=hello.TLS1_2, suites=hello.OLD_SUITES, ticket=True))
    offered = hello.TICKET in answer.extensions
    return answer.alert is None and not offered, "offered" if offered else "not offered"


def fallback(target: Target) -> Verdict:
    suites = (*hello.OLD_SUITES, hello.FALLBACK_SCSV)
    answer = target.ask(Hello(version=hello.TLS1_2, suites=suites))
    return answer.alert == INAPPROPRIATE_FALLBACK, f"alert {answer.alert}"


def weak_groups(target: Target) -> Verdict:
    answer = target.ask(Hello(version=hello.TLS1_2, suites=hello.OLD_SUITES, groups=WEAK_GROUPS))
    return answer.alert is not None, "refused" if answer.alert is not None else "accepted"


def weak_signatures(target: Target) -> Verdict:
    answer = target.ask(
        Hello(version=hello.TLS1_2, suites=hello.OLD_SUITES, signatures=SHA1_SIGNATURES)
    )
    return answer.alert is not None, "refused" if answer.alert is not None else "accepted"


def resumption(target: Target) -> Verdict:
    """A session of a first connection does not spare a second one its handshake."""
    versions = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    resumed = [version.name for version in versions if _resumes(target, version)]
    return not resumed, f"resumed: {', '.join(resumed) or 'none'}"


def renegotiation(target: Target) -> Verdict:
    address, cert = f"{target.host}:{target.port}", str(target.cert)
    command = ["openssl", "s_client", "-connect", address, "-tls1_2"]
    command += ["-CAfile", str(target.ca), "-cert_chain", cert, "-cert", cert, "-key", cert]
    done = subprocess.run(
        command, input="R\n", capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    said = done.stdout + done.stderr
    refused = "RENEGOTIATING" in said and "no renegotiation" in said
    return refused, "by the client: refused" if refused else f"not refused: {said[-200:]}"


CHECKS: dict[str, Check] = {
    "SSL 2.0": ssl2,
    "SSL 3.0, TLS 1.0, TLS 1.1": old_protocols,
    "TLS 1.2, TLS 1.3": new_protocols,
    "ciphers of TLS 1.2": suites_1_2,
    "ciphers of TLS 1.3": suites_1_3,
    "cipher preference": preference,
    "downgrade (TLS_FALLBACK_SCSV)": fallback,
    "weak elliptic curves": weak_groups,
    "SHA-1 signatures": weak_signatures,
    "compression (CRIME)": compression,
    "heartbeat (Heartbleed)": heartbeat,
    "secure renegotiation": secure_renegotiation,
    "renegotiation": renegotiation,
    "session tickets": tickets,
    "session resumption": resumption,
}


def scan(target: Target) -> Iterator[tuple[str, Verdict]]:
    for name, check in CHECKS.items():
        yield name, check(target)


def _offer(version: int) -> Hello:
    suites = hello.NEW_SUITES if version >= hello.TLS1_3 else hello.OLD_SUITES
    return Hello(version=version, suites=suites)


def _suites(target: Target, version: int) -> Iterator[int]:
    """The suites that the server takes, the one it likes best first."""
    offered = list(_offer(version).suites)
    while offered:
        answer = target.ask(Hello(version=version, suites=offered))
        if answer.alert is not None or answer.version != version:
            return
        yield answer.suite
        offered.remove(answer.suite)


def _only(taken: list[int], good: set[int]) -> Verdict:
    names = ", ".join(f"0x{suite:04X}" for suite in taken)
    return bool(taken) and set(taken) <= good, names or "none"


def _resumes(target: Target, version: ssl.TLSVersion) -> bool:
    context, session = target.context(version), None
    for _ in range(2):
        with socket.create_connection((target.host, target.port), TIMEOUT) as plain:
            with context.wrap_socket(plain, server_hostname=target.host, session=session) as secure:
                secure.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                while secure.recv(65536):  # a ticket may come with the answer
                    continue
                if secure.session_reused:
                    return True
                session = secure.session
    return False
