"""Structured logs: one JSON object (or one readable line) per event on standard error, with the correlation id."""

from __future__ import annotations

import contextvars
import logging
import sys
from typing import Any

import structlog
from structlog.types import EventDict, WrappedLogger

from intaglio.core.settings import Settings

correlation_id: contextvars.ContextVar[str] = contextvars.ContextVar("correlation_id", default="")

_LEVELS = {"TRACE": 5, "DEBUG": 10, "INFO": 20, "WARN": 30, "ERROR": 40, "FATAL": 50, "OFF": 100}
_SECRET_WORDS = ("password", "secret", "token", "authorization", "private_key", "master_key", "passphrase", "pin")


def configure_logging(settings: Settings) -> None:
    """Send every log record of this process, ours and the libraries', through one formatter."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_correlation_id,
        _redact,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [output]
    set_log_level(settings.log_level)


def set_log_level(level: str) -> None:
    """Change the lowest level shown, at once."""
    logging.getLogger().setLevel(_LEVELS[level])
    for noisy in ("httpx", "httpcore", "asyncio", "psycopg", "alembic", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(max(_LEVELS[level], logging.WARNING))


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger named after its module."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _add_correlation_id(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    if current := correlation_id.get():
        event.setdefault("correlation_id", current)
    return event


def _redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for name in event:
        if any(word in name.lower() for word in _SECRET_WORDS):
            event[name] = "[redacted]"
    return event
