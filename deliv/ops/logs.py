"""Logging: one line per event, JSON or for people, times in UTC, context bound per request."""

from __future__ import annotations

import logging
import sys

import structlog

from deliv.config import Log
from deliv.errors import ConfigError

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("json", "text")


def escaped(text: str, keep: str = "") -> str:
    """The text with all that a terminal may obey, or hide, written as Python escapes it.

    Control characters, U+0080 to U+009F among them; line ends, also U+2028; marks that turn the
    direction of writing. Those in `keep` stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def _escape(
    _logger: object, _method: str, entry: structlog.types.EventDict
) -> structlog.types.EventDict:
    """Tracebacks keep their lines, each indented: no message in one looks like an event."""
    fitted: structlog.types.EventDict = {}
    for name, value in entry.items():
        if isinstance(value, str):
            multiline = name in {"exception", "stack"}
            value = escaped(value, "\n\t" if multiline else "").replace("\n", "\n    ")
        fitted[escaped(name)] = value
    return fitted


def configure(config: Log) -> None:
    """Send structlog's and the standard library's records through one pipe to stderr."""
    if config.level not in LEVELS:
        raise ConfigError(f"log.level must be one of {', '.join(LEVELS)}, not {config.level!r}")
    if config.format not in FORMATS:
        raise ConfigError(f"log.format must be one of {', '.join(FORMATS)}, not {config.format!r}")
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers: list[structlog.types.Processor] = (
        [structlog.processors.JSONRenderer(ensure_ascii=True)]
        if config.format == "json"
        else [_escape, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(config.level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                *renderers,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.level.upper())
    for chatty in ("pika", "tornado.access", "tornado.general"):  # our own lines say it better
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    # At debug it has curl write down all that it sends and gets, one-time codes too.
    logging.getLogger("tornado.curl_httpclient").setLevel(logging.WARNING)
