"""How the engine says no: every refusal names the step of the pipeline in ``extra["step"]``.

The steps are those of `Step`, and ``request`` for what the floors below find wrong with the request itself.
"""

from __future__ import annotations

from typing import Literal

from intaglio.core.errors import Forbidden, InvalidInput, Refused

Step = Literal[
    "channel",
    "mode",
    "key",
    "subject",
    "san",
    "key-usage",
    "extended-key-usage",
    "extensions",
    "validity",
    "path-length",
    "lint",
]  # fmt: skip


def refused(step: Step, code: str, detail: str, remedy: str = "", *, target: str | None = None) -> Refused:
    """Policy or a standard forbids it."""
    return Refused(detail, code=code, remedy=remedy, target=target, extra={"step": step})


def invalid(step: Step, code: str, detail: str, remedy: str = "", *, target: str | None = None) -> InvalidInput:
    """The request contradicts itself or cannot be read."""
    return InvalidInput(detail, code=code, remedy=remedy, target=target, extra={"step": step})


def forbidden(step: Step, code: str, detail: str, remedy: str = "", *, target: str | None = None) -> Forbidden:
    """No role may ask for it."""
    return Forbidden(detail, code=code, remedy=remedy, target=target, extra={"step": step})
