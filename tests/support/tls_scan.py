"""What sslyze finds out about a server's TLS, and how it should be.

sslyze does not ask whose order of ciphers counts, nor for weak signatures; `openssl` asks that.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCANNER = Path(__file__).parents[2] / "tools" / "tls-scan"
TIMEOUT = 100  # seconds
WITHOUT_CERTIFICATE = (
    *("--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3"),
    *("--compression", "--fallback", "--heartbleed", "--openssl_ccs", "--robot"),
    *("--elliptic_curves", "--ems"),
)
# These need a whole handshake; with a client's certificate, sslyze can't offer SSL 2.0.
WITH_CERTIFICATE = ("--early_data", "--reneg", "--resum")
# ECDHE with AES-GCM or ChaCha20-Poly1305; RSA or ECDSA, as the server's certificate is.
GOOD_1_2 = {
    f"TLS_ECDHE_{key}_WITH_{cipher}"
    for key in ("RSA", "ECDSA")
    for cipher in ("AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256")
}
GOOD_1_3 = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
GOOD_CURVES = {"X25519", "X448", "secp256r1", "secp384r1", "secp521r1"}

Scan = dict[str, Any]  # by the name of sslyze's command


@dataclass(frozen=True, kw_only=True)
class Server:
    """`cert`: a file with a client's certificate, key and chain."""

    address: str
    cert: Path

    def scan(self) -> Scan:
        cert = ("--cert", str(self.cert), "--key", str(self.cert))
        return self._sslyze(*WITHOUT_CERTIFICATE) | self._sslyze(*WITH_CERTIFICATE, *cert)

    def _sslyze(self, *options: str) -> Scan:
        command = [SCANNER, "--json_out=-", "--mozilla_config=disable", *options, self.address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
        (server,) = json.loads(done.stdout)["server_scan_results"]
        results = {name: attempt["result"] for name, attempt in server["scan_result"].items()}
        return {name: result for name, result in results.items() if result}

    def cipher(self, *options: str) -> str:
        """What the server chooses of such an offer of TLS 1.2; "(NONE)" when it refuses."""
        command = ["openssl", "s_client", "-connect", self.address, "-tls1_2", *options]
        done = subprocess.run(
            command, input="", capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        (line,) = (line for line in done.stdout.splitlines() if line.startswith("New, "))
        return line.rpartition(" ")[2]


def spoken(scan: Scan, version: str) -> bool:
    return bool(scan[f"{version}_cipher_suites"]["is_tls_version_supported"])


def suites(scan: Scan, version: str) -> set[str]:
    accepted = scan[f"{version}_cipher_suites"]["accepted_cipher_suites"]
    return {one["cipher_suite"]["name"] for one in accepted}


def curves(scan: Scan) -> set[str]:
    return {curve["name"] for curve in scan["elliptic_curves"]["supported_curves"]}


def resumed(scan: Scan, how: str) -> bool:
    return bool(scan["session_resumption"][f"{how}_successful_resumptions_count"])


RULES: dict[str, Callable[[Scan], bool]] = {
    "no SSL 2.0": lambda scan: not spoken(scan, "ssl_2_0"),
    "no SSL 3.0": lambda scan: not spoken(scan, "ssl_3_0"),
    "no TLS 1.0": lambda scan: not spoken(scan, "tls_1_0"),
    "no TLS 1.1": lambda scan: not spoken(scan, "tls_1_1"),
    "TLS 1.2": lambda scan: spoken(scan, "tls_1_2"),
    "TLS 1.3": lambda scan: spoken(scan, "tls_1_3"),
    "ciphers of TLS 1.2": lambda scan: suites(scan, "tls_1_2") <= GOOD_1_2,
    "ciphers of TLS 1.3": lambda scan: suites(scan, "tls_1_3") <= GOOD_1_3,
    "elliptic curves": lambda scan: curves(scan) <= GOOD_CURVES,
    "no compression (CRIME)": lambda scan: not scan["tls_compression"]["supports_compression"],
    "no downgrade": lambda scan: scan["tls_fallback_scsv"]["supports_fallback_scsv"],
    "no Heartbleed": lambda scan: not scan["heartbleed"]["is_vulnerable_to_heartbleed"],
    "no early ChangeCipherSpec": lambda scan: (
        not scan["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"]
    ),
    "no ROBOT": lambda scan: scan["robot"]["robot_result"].startswith("NOT_VULNERABLE"),
    "extended master secret": lambda scan: scan["tls_extended_master_secret"][
        "supports_ems_extension"
    ],
    "no early data": lambda scan: not scan["tls_1_3_early_data"]["supports_early_data"],
    "secure renegotiation": lambda scan: scan["session_renegotiation"][
        "supports_secure_renegotiation"
    ],
    "no renegotiation by the client": lambda scan: (
        not scan["session_renegotiation"]["client_renegotiations_success_count"]
    ),
    "no resumption by session": lambda scan: not resumed(scan, "session_id"),
    "no resumption by ticket": lambda scan: not resumed(scan, "tls_ticket"),
}


def prefers_its_own_order(server: Server) -> bool:
    """Of two ciphers it chooses the same one, whichever the client names first."""
    ciphers = ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384")
    chosen = {server.cipher("-cipher", ":".join(order)) for order in (ciphers, ciphers[::-1])}
    return len(chosen) == 1 and chosen <= set(ciphers)


def refuses_sha1(server: Server) -> bool:
    return server.cipher("-sigalgs", "RSA+SHA1", "-cipher", "ALL:@SECLEVEL=0") == "(NONE)"
