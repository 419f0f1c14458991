"""How this process writes down what happens: structlog, to stderr."""

import logging
import sys
from typing import Literal

import structlog


def keep_journal(level: str, form: Literal["console", "json"]) -> None:
    """Lines for people, or JSON lines for machines, from `level` on."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    pretty = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info
            if form == "json"
            else structlog.processors.StackInfoRenderer(),
            structlog.processors.JSONRenderer() if form == "json" else pretty,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
