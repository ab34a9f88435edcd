"""Files on GridFTP servers, which deliv reads itself."""

from deliv.gateways.gridftp.client import FileFacts, GridFtp

__all__ = ["FileFacts", "GridFtp"]
