"""The caller's side of deliv: a library, and the commands `deliv submit` and others.

    client = Client(url, cert, key, ca)
    job_id = client.submit("005", "gsiftp://gridftp.example.org/home/alice")
    answer = client.wait(job_id)

Needs the standard library alone; the commands need rich. Imports nothing of the server.
"""

from deliv.client.api import Client, delivered, ended
from deliv.client.errors import (
    BadAnswer,
    ClientError,
    Conflict,
    CredentialRefused,
    CredentialUnusable,
    NotFound,
    PermissionRefused,
    Rejected,
    ServerNotTrusted,
    SetupError,
    StillRunning,
    Unavailable,
    Unreachable,
    UnusableFile,
)

__all__ = [
    "BadAnswer",
    "Client",
    "ClientError",
    "Conflict",
    "CredentialRefused",
    "CredentialUnusable",
    "NotFound",
    "PermissionRefused",
    "Rejected",
    "ServerNotTrusted",
    "SetupError",
    "StillRunning",
    "Unavailable",
    "Unreachable",
    "UnusableFile",
    "delivered",
    "ended",
]
