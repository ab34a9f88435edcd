"""The certificate that a server uses: in TLS, or in GridFTP's handshake inside of FTP."""

from __future__ import annotations

import shlex

from deploy.client import HOME
from deploy.fleet import Fleet

HOST_CERTIFICATE = "/etc/grid-security/hostcert.pem"
SERIAL = ("openssl", "x509", "-noout", "-serial")
# Runs in a host: RFC 2228's AUTH GSSAPI, whose tokens are Globus's TLS records.
ASK_GRIDFTP = """
import base64, socket, ssl, sys
host, port, certificate, key = sys.argv[1:]
stream = socket.create_connection((host, int(port)), 20).makefile("rwb")
def reply():
    while (line := stream.readline().rstrip())[3:4] != b" ":
        assert line, "the server has gone"
    return line
def say(command):
    stream.write(command + b"\\r\\n")
    stream.flush()
    return reply()
reply()
say(b"AUTH GSSAPI")
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.load_cert_chain(certificate, key)
received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(received, to_send)
while True:
    try:
        tls.do_handshake()
        break
    except ssl.SSLWantReadError:
        answer = say(b"ADAT " + base64.b64encode(to_send.read()))
        received.write(base64.b64decode(answer.partition(b"ADAT=")[2]))
print(ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True)))
"""


def tls_serial(fleet: Fleet, host: str, port: int, *options: str) -> str:
    """Of a TLS server of a host, as the host itself sees it."""
    server = f"{fleet.address(host)}:{port}"
    connect = shlex.join(["openssl", "s_client", "-connect", server, *options])
    pem = fleet.execute(host, "sh", "-c", f"{connect} </dev/null 2>/dev/null", check=False).stdout
    return _serial(fleet, host, pem)


def gridftp_serial(fleet: Fleet, origin: str, target: str, port: int) -> str:
    """Of a GridFTP server, as a user at another host sees it."""
    pem = fleet.execute(
        origin, "python3", "-c", ASK_GRIDFTP, fleet.address(target), str(port),
        str(HOME / "cert.pem"), str(HOME / "key.pem"),
    ).stdout  # fmt: skip
    return _serial(fleet, origin, pem)


def serial_of_file(fleet: Fleet, host: str) -> str:
    """Of the host's own certificate."""
    return _serial(fleet, host, fleet.execute(host, "cat", HOST_CERTIFICATE).stdout)


def _serial(fleet: Fleet, host: str, pem: str) -> str:
    return fleet.execute(host, *SERIAL, stdin=pem).stdout.strip().removeprefix("serial=")
