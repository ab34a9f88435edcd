"""What all handlers share: the caller, FTS's two JSON shapes and Apache's HTML pages."""

from __future__ import annotations

import json
import logging
import sqlite3
from asyncio import Future
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl
from weakref import WeakKeyDictionary

from tornado.iostream import IOStream
from tornado.web import HTTPError, RequestHandler

from deliv_testbed.fts import caller
from deliv_testbed.fts.bans import Bans
from deliv_testbed.fts.caller import Caller
from deliv_testbed.fts.delegation import Delegation
from deliv_testbed.fts.errors import BadRequest, Forbidden, RestError, status_line
from deliv_testbed.fts.jobs import Jobs
from deliv_testbed.fts.settings import FtsSettings
from deliv_testbed.fts.storage import Storage
from deliv_testbed.tls import stream_of, verified_chain

log = logging.getLogger("deliv_testbed.fts")

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
HTML = "text/html; charset=iso-8859-1"
# Apache looks for a file of the request's name below its directory: names beyond the system's
# 4096 bytes are a 404. And it reads a request line of 8190 bytes.
LONGEST_PATH = 4060
LONGEST_LINE = 8190
PAGE = """<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01//EN" "http://www.w3.org/TR/html4/strict.dtd">
<html><head>
<title>{status}</title>
</head><body>
<h1>{title}</h1>
<p>{text}</p>
</body></html>
"""
FLASK_HTML = "text/html; charset=utf-8"
FLASK_PAGE = """<!doctype html>
<html lang=en>
<title>{status}</title>
<h1>{title}</h1>
<p>{text}</p>
"""
TEXTS = {
    404: "The requested URL was not found on this server.",
    414: "The requested URL's length exceeds the capacity limit for this server.",
    500: """The server encountered an internal error or
misconfiguration and was unable to complete
your request.</p>
<p>Please contact the server administrator at
 [no address given] to inform them of the time this error occurred,
 and the actions you performed just before this error.</p>
<p>More information about this error may be available
in the server error log.""",
}
MESSAGES = {
    404: "The requested URL was not found on the server. If you entered the URL manually please "
    "check your spelling and try again.",
    405: "The method is not allowed for the requested URL.",
    500: "The server encountered an internal error and was unable to complete your request. Either "
    "the server is overloaded or there is an error in the application.",
}


@dataclass
class Connection:
    """A client's connection: who is at the other end, parsed once, and how much it has asked."""

    stream: IOStream
    caller: Caller
    requests: int = 0


class Connections:
    """Those that are open."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[IOStream, Connection] = WeakKeyDictionary()

    def of(self, stream: IOStream) -> Connection:
        if stream not in self._known:
            chain = verified_chain(stream)
            self._known[stream] = Connection(stream=stream, caller=caller.from_chain(chain))
        return self._known[stream]


@dataclass(frozen=True, kw_only=True)
class FtsService:
    """What the handlers work with; `administrator` is the DN of FTS's own certificate."""

    settings: FtsSettings
    jobs: Jobs
    delegation: Delegation
    bans: Bans
    storage: Storage
    connections: Connections
    administrator: str


class FtsHandler(RequestHandler):
    def initialize(self, service: FtsService) -> None:
        self.service = service

    def prepare(self) -> None:
        self.client = self.service.connections.of(stream_of(self.request))
        self.client.requests += 1
        line = f"{self.request.method} {self.request.uri} {self.request.version}"
        if len(line) > LONGEST_LINE:
            self.page(414)
        elif len(self.request.path) > LONGEST_PATH:
            self.page(404)
        elif self.service.bans.has_user(self.caller.user_dn):
            # FTS looks before anything else, where nothing makes JSON of an error yet.
            status = status_line(403)
            title = status.partition(" ")[2]
            text = "The user has been banned"
            self.reply(FLASK_PAGE.format(status=status, title=title, text=text), 403, FLASK_HTML)
        else:
            self.begin()

    def begin(self) -> None:
        """For handlers that answer whatever the method."""

    @property
    def caller(self) -> Caller:
        return self.client.caller

    @property
    def member(self) -> Caller:
        """The caller, who must have shown a certificate."""
        if self.caller.anonymous:
            raise Forbidden("Not enough permissions")
        return self.caller

    @property
    def identified(self) -> Caller:
        """The caller, for calls that end with a 500 at FTS without a certificate."""
        if self.caller.anonymous:
            raise HTTPError(500)
        return self.caller

    @property
    def is_administrator(self) -> bool:
        """Whether it is FTS's own host that asks."""
        return self.caller.user_dn == self.service.administrator

    @property
    def jobs(self) -> Jobs:
        return self.service.jobs

    @property
    def filters(self) -> dict[str, str]:
        return {name: self.get_query_argument(name) for name in self.request.query_arguments}

    def body(self) -> Any:
        """The request's body as FTS takes it: JSON, or the fields of a form."""
        kind = self.request.headers.get("Content-Type", "")
        if kind.startswith(JSON):
            try:
                return json.loads(self.request.body)
            except ValueError as error:
                raise BadRequest("Badly formatted JSON request") from error
        if kind.startswith(FORM):
            return dict(parse_qsl(self.request.body.decode("latin-1")))
        raise BadRequest(f"Expecting {JSON} or {FORM}")

    def answer(self, content: Any, code: int = 200) -> None:
        self.reply(json.dumps(content), code, JSON)

    def stream(self, elements: Iterable[Any], code: int = 200) -> None:
        """A list as FTS sends it, while it reads: what can't be read ends the answer early."""
        body = "["
        try:
            for index, element in enumerate(elements):
                body += ("," if index else "") + json.dumps(element)
            body += "]"
        except sqlite3.Error:
            log.exception("a list breaks off")
        self.reply(body, code, JSON)

    def reply(self, body: str, code: int, kind: str) -> None:
        self.set_status(code, status_line(code).partition(" ")[2])
        self.set_header("Content-Type", kind)
        self.finish(body)

    def page(self, code: int) -> None:
        """Apache's own page, for what never reaches FTS."""
        status = status_line(code)
        title = status.partition(" ")[2]
        self.reply(PAGE.format(status=status, title=title, text=TEXTS[code]), code, HTML)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = (kwargs.get("exc_info") or (None, None, None))[1]
        if isinstance(error, RestError):
            self.answer({"status": error.status, "message": error.message}, error.code)
        elif isinstance(error, sqlite3.Error):
            self.page(500)
        else:
            code = status_code if status_code in MESSAGES else 500
            self.answer({"status": status_line(code), "message": MESSAGES[code]}, code)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if not isinstance(value, RestError | HTTPError):
            super().log_exception(typ, value, tb)

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> Future[None]:
        """As Tornado's; the last answer of a connection says so, and closes it once it is out."""
        if self.client.requests < self.service.settings.connection_requests:
            return super().finish(chunk)
        self.set_header("Connection", "close")
        done = super().finish(chunk)
        done.add_done_callback(lambda _: self.client.stream.close())
        return done


class FtsNotFoundHandler(FtsHandler):
    def begin(self) -> None:
        raise HTTPError(404)
