"""Calls to one server that deliv depends on: its URL, time-out and circuit breaker."""

from __future__ import annotations

import asyncio
from html.parser import HTMLParser
from http import HTTPStatus

from deliv.errors import Unreachable
from deliv.gateways.breaker import Breaker
from deliv.gateways.https import HttpsClient, Response

SHOWN = 200  # bytes of an answer
PAGE = 20_000  # characters of a web page in which its text is looked for


class Upstream:
    """`title` names the server in messages; `timeout` in seconds for each call.

    Calls that may fail or hang while others are answered are an Upstream of their own, with its
    `purpose` and breaker.
    """

    def __init__(
        self,
        title: str,
        url: str,
        https: HttpsClient,
        timeout: float,
        breaker: Breaker,
        purpose: str = "",
    ) -> None:
        self.title = title
        self.url = url.rstrip("/")
        self.https = https
        self.breaker = breaker
        self._timeout = timeout
        self._purpose = purpose

    async def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str | None = None,
        secrets: tuple[str, ...] = (),
    ) -> Response:
        """The server's own answer, whatever its code; without the request's `secrets`.

        Unreachable when there is none: no answer, a server error, too many requests, or what
        something in front of the server says; and at once while the breaker is open.
        """
        if not self.breaker.enter():
            reason = f"{self.title} is left alone after failures: {self.breaker.reason}"
            raise Unreachable(reason, retry_after=round(self.breaker.wait) + 1, sent=False)
        try:
            answer = await self.https.request(
                method,
                self.url + path,
                body=body,
                content_type=content_type,
                secrets=secrets,
                timeout=self._timeout,
                purpose=self._purpose,
            )
            self._check(answer)
        except Unreachable as error:
            self.breaker.failed(error.kind)
            raise
        except asyncio.CancelledError:
            self.breaker.failed(f"{self.title} had not answered when it was given up")
            raise
        self.breaker.succeeded()
        return answer

    async def check_ready(self) -> None:
        """Unreachable when nothing at all answers at its URL; the breaker has no part in it."""
        await self.https.request("GET", f"{self.url}/", timeout=self._timeout)

    def _check(self, answer: Response) -> None:
        """Unreachable for an answer that is not the server's own, or that is an error of its."""
        out_of_order = answer.status >= 500 or answer.status == HTTPStatus.TOO_MANY_REQUESTS
        # Of a proxy or web server in front: an upstream neither redirects nor writes web pages.
        foreign = 300 <= answer.status < 400 or _is_page(answer)
        if out_of_order or foreign:
            kind = f"{self.title} answered {answer.status}"
            raise Unreachable(f"{kind}: {error_message(answer)}", kind=kind)


def error_message(answer: Response) -> str:
    """The sentence in an answer's JSON, by whatever name, or what the answer is instead.

    Of a web page the text that it shows, as far as SHOWN characters.
    """
    document = answer.document
    if isinstance(document, dict):
        texts = (document.get(name) for name in ("message", "http_message", "msg"))
        return str(next(filter(None, texts), "no reason given"))
    text = answer.body[:SHOWN].decode("utf-8", "replace").strip()
    if text and not _is_page(answer):
        return text
    kind = answer.headers.get("Content-Type", "no content")
    shown = _PageText.of(answer.body.decode("utf-8", "replace")) if text else ""
    return f"{kind}, not its JSON" + (f": {shown}" if shown else "")


class _PageText(HTMLParser):
    """Collects what a page shows: neither its title nor styles and scripts."""

    HIDDEN = frozenset({"head", "title", "style", "script"})

    @classmethod
    def of(cls, page: str) -> str:
        """The printable beginning of a page's text."""
        parser = cls()
        parser.feed(page[:PAGE])
        parser.close()
        text = " ".join(parser.words)[:SHOWN]
        return "".join(character for character in text if character.isprintable())

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._hidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "body":
            self._hidden.clear()
        elif tag in self.HIDDEN:
            self._hidden.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._hidden:
            del self._hidden[self._hidden.index(tag) :]

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words += data.split()


def _is_page(answer: Response) -> bool:
    return answer.body.lstrip().startswith(b"<")
