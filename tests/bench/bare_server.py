"""The least that Tornado can do over HTTPS with client certificates: what deliv is held against.

python bare_server.py CERTIFICATE KEY CA_FILE; prints its port.
"""

from __future__ import annotations

import asyncio
import ssl
import sys

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler


class Hello(RequestHandler):
    def get(self) -> None:
        self.write({"hello": "world"})


async def main(certificate: str, key: str, ca_file: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    (listening,) = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(Application([("/", Hello)]), ssl_options=context)
    server.add_sockets([listening])
    print(listening.getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
