"""What OpenSSL itself says of names: X509_NAME_oneline and X509_NAME_hash, called directly."""

from __future__ import annotations

import ctypes
import ctypes.util
from ctypes import POINTER, byref, c_char_p, c_int, c_long, c_ulong, c_void_p

LIBRARY = ctypes.CDLL(ctypes.util.find_library("crypto") or "libcrypto.so.3")

LIBRARY.d2i_X509_NAME.restype = c_void_p
LIBRARY.d2i_X509_NAME.argtypes = [c_void_p, POINTER(c_char_p), c_long]
LIBRARY.X509_NAME_oneline.restype = c_void_p
LIBRARY.X509_NAME_oneline.argtypes = [c_void_p, c_void_p, c_int]
LIBRARY.X509_NAME_hash_ex.restype = c_ulong
LIBRARY.X509_NAME_hash_ex.argtypes = [c_void_p, c_void_p, c_char_p, POINTER(c_int)]
LIBRARY.X509_NAME_free.argtypes = [c_void_p]
LIBRARY.d2i_X509.restype = c_void_p
LIBRARY.d2i_X509.argtypes = [c_void_p, POINTER(c_char_p), c_long]
LIBRARY.X509_free.argtypes = [c_void_p]
LIBRARY.X509_get_issuer_name.restype = c_void_p
LIBRARY.X509_get_issuer_name.argtypes = [c_void_p]
LIBRARY.X509_get_subject_name.restype = c_void_p
LIBRARY.X509_get_subject_name.argtypes = [c_void_p]
LIBRARY.CRYPTO_free.argtypes = [c_void_p, c_char_p, c_int]
LIBRARY.ERR_clear_error.argtypes = []


def describe(name: bytes) -> tuple[str, str] | None:
    """The one-line form and the hash of a name's DER; None when OpenSSL does not take it."""
    start = c_char_p(name)
    parsed = LIBRARY.d2i_X509_NAME(None, byref(start), len(name))
    LIBRARY.ERR_clear_error()
    if not parsed:
        return None
    try:
        return _oneline(parsed), _hash(parsed)
    finally:
        LIBRARY.X509_NAME_free(parsed)


def describe_certificate(encoding: bytes) -> tuple[str, str] | None:
    """The one-line forms of a certificate's subject and issuer; None when OpenSSL refuses it."""
    start = c_char_p(encoding)
    parsed = LIBRARY.d2i_X509(None, byref(start), len(encoding))
    LIBRARY.ERR_clear_error()
    if not parsed:
        return None
    try:
        subject = _oneline(LIBRARY.X509_get_subject_name(parsed))
        return subject, _oneline(LIBRARY.X509_get_issuer_name(parsed))
    finally:
        LIBRARY.X509_free(parsed)


def _oneline(parsed: int) -> str:
    printed = LIBRARY.X509_NAME_oneline(parsed, None, 0)
    try:
        return ctypes.string_at(printed).decode("ascii")
    finally:
        LIBRARY.CRYPTO_free(printed, b"", 0)


def _hash(parsed: int) -> str:
    good = c_int(0)
    value = LIBRARY.X509_NAME_hash_ex(parsed, None, None, byref(good))
    return f"{value & 0xFFFFFFFF:08x}"
