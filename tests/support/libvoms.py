"""What VOMS's own library takes for good in a proxy: VOMS_Retrieve with every check, by ctypes.

libvoms.py PROXY CA_DIRECTORY VOMSDIR    prints the FQANs, or why there are none

A program of its own, since a C library may come to grief over what tests put before it.
Source of the structures: voms_apic.h.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from ctypes import POINTER, byref, c_char_p, c_int, c_long, c_void_p
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

LIBRARY = "libvomsapi.so.1"
RECURSE_CHAIN = 0
TIMEOUT = 60


class Voms(ctypes.Structure):
    _fields_ = (
        ("siglen", c_int),
        *((name, c_void_p) for name in ("signature", "user", "userca", "server", "serverca")),
        *((name, c_void_p) for name in ("voname", "uri", "date1", "date2")),
        ("type", c_int),
        ("std", c_void_p),
        ("custom", c_void_p),
        ("datalen", c_int),
        ("version", c_int),
        ("fqan", POINTER(c_char_p)),
    )


class VomsData(ctypes.Structure):
    _fields_ = (("cdir", c_void_p), ("vdir", c_void_p), ("data", POINTER(POINTER(Voms))))


def read(proxy: Path, ca_directory: Path, vomsdir: Path) -> tuple[str, ...]:
    """The FQANs that the library gives, in a program of its own; none when it refuses, or dies."""
    command = [sys.executable, __file__, str(proxy), str(ca_directory), str(vomsdir)]
    environment = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=TIMEOUT
    )
    assert done.returncode <= 1, done.stderr
    return tuple(done.stdout.splitlines()) if done.returncode == 0 else ()


def _retrieve(proxy: Path, ca_directory: Path, vomsdir: Path) -> list[str]:
    """RuntimeError when the library refuses."""
    crypto, voms = ctypes.CDLL("libcrypto.so.3"), ctypes.CDLL(LIBRARY)
    for function in (crypto.d2i_X509, crypto.OPENSSL_sk_new_null):
        function.restype = c_void_p
    crypto.d2i_X509.argtypes = [c_void_p, POINTER(c_char_p), c_long]
    crypto.OPENSSL_sk_push.argtypes = [c_void_p, c_void_p]
    voms.VOMS_Init.restype = POINTER(VomsData)
    voms.VOMS_Init.argtypes = [c_char_p, c_char_p]
    voms.VOMS_Retrieve.argtypes = [c_void_p, c_void_p, c_int, POINTER(VomsData), POINTER(c_int)]
    voms.VOMS_ErrorMessage.restype = c_char_p
    voms.VOMS_ErrorMessage.argtypes = [POINTER(VomsData), c_int, c_char_p, c_int]
    loaded = []
    for one in x509.load_pem_x509_certificates(proxy.read_bytes()):
        encoding = one.public_bytes(Encoding.DER)
        loaded.append(crypto.d2i_X509(None, byref(c_char_p(encoding)), len(encoding)))
    first, *rest = loaded
    chain = crypto.OPENSSL_sk_new_null()
    for certificate in rest:
        crypto.OPENSSL_sk_push(chain, certificate)
    data, error = voms.VOMS_Init(bytes(vomsdir), bytes(ca_directory)), c_int(0)
    if not voms.VOMS_Retrieve(first, chain, RECURSE_CHAIN, data, byref(error)):
        raise RuntimeError(voms.VOMS_ErrorMessage(data, error, None, 0))
    return [fqan for one in _until_null(data.contents.data) for fqan in _fqans(one.contents)]


def _fqans(one: Voms) -> list[str]:
    return [fqan.decode("latin-1") for fqan in _until_null(one.fqan)]


def _until_null(pointers: object) -> list:  # type: ignore[type-arg]
    found = []
    while pointers and pointers[len(found)]:  # type: ignore[index]
        found.append(pointers[len(found)])  # type: ignore[index]
    return found


if __name__ == "__main__":
    try:
        print("\n".join(_retrieve(*map(Path, sys.argv[1:]))))
    except RuntimeError as refusal:
        sys.exit(str(refusal))
