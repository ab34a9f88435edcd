"""Logging: one line per event, JSON or for people, times in UTC, context bound per request."""

from __future__ import annotations

import logging
import sys

import structlog

from deliv.config import Log
from deliv.errors import ConfigError

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("json", "text")


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
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(config.level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(config, shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.level.upper())
    for chatty in ("pika", "tornado.access", "tornado.general"):  # said better by our own lines
        logging.getLogger(chatty).setLevel(logging.CRITICAL)


def _formatter(
    config: Log, shared: list[structlog.types.Processor]
) -> structlog.stdlib.ProcessorFormatter:
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=True)
        if config.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
    )
