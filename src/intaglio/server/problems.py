"""Refusals as RFC 9457 problem details (``application/problem+json``).

``install`` makes a FastAPI or Starlette application answer every error so: our own, unknown paths and methods, invalid
input, and the unexpected, of which the client learns only the correlation id.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from intaglio.core.errors import IntaglioError, InvalidInput
from intaglio.core.logging import correlation_id

MEDIA_TYPE = "application/problem+json"

#: Turns a refusal into (content type, body) of one listener's wire format.
Renderer = Callable[[IntaglioError], tuple[bytes, bytes]]

_BY_STATUS: dict[int, tuple[str, str, str]] = {
    400: ("invalid-input", "The request is malformed.", ""),
    401: ("unauthenticated", "This needs authentication.", ""),
    403: ("forbidden", "This is not allowed.", ""),
    404: ("not-found", "There is nothing at this path.", "Look the path up in the API documentation."),
    405: ("method-not-allowed", "This path does not support the method.", "Use one of the methods in Allow."),
    413: ("too-large", "The request is too large.", "Send less at once."),
    415: ("unsupported-media-type", "This media type is not understood here.", "Send application/json."),
    429: ("rate-limited", "Too many requests.", "Wait and try again."),
}
_MAX_FIELDS = 50


class Unexpected(IntaglioError):
    """A defect of ours. What happened is in the log under the correlation id, never in the answer."""

    status = 500
    default_code = "internal-error"
    default_remedy = "Try again; if it persists, report the correlation id to the operator."

    def __init__(self) -> None:
        super().__init__("The server could not complete the request.")


class _HttpStatus(IntaglioError):
    """A refusal of the web framework itself."""

    def __init__(self, status: int, detail: str | None = None) -> None:
        code, sentence, remedy = _BY_STATUS.get(status, ("http-error", HTTPStatus(status).phrase + ".", ""))
        super().__init__(detail or sentence, code=code, remedy=remedy)
        self.status = status  # type: ignore[misc]


def install(app: Starlette) -> None:
    """Register the handlers on an application (FastAPI applications are Starlette applications)."""
    app.add_exception_handler(IntaglioError, _on_intaglio_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(UnicodeEncodeError, _on_lone_surrogate)
    app.add_exception_handler(Exception, _on_unexpected)
    try:
        from fastapi.exceptions import RequestValidationError
    except ImportError:  # an application without FastAPI has no such errors
        return
    app.add_exception_handler(RequestValidationError, _on_invalid_request)


def problem(error: IntaglioError) -> dict[str, Any]:
    """The members of the problem object."""
    members: dict[str, Any] = {
        "type": f"urn:intaglio:problem:{error.code}",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
    }
    if error.remedy:
        members["remedy"] = error.remedy
    fields = error.fields or (((error.target, error.detail),) if error.target else ())
    if fields:
        members["errors"] = [{"pointer": _pointer(target), "message": message} for target, message in fields]
    if current := correlation_id.get():
        members["correlationId"] = current
    for name, value in error.extra.items():
        members.setdefault(name, value)
    return members


def render(error: IntaglioError) -> tuple[bytes, bytes]:
    """Content type and body: the :data:`Renderer` of every listener that has no format of its own."""
    return MEDIA_TYPE.encode(), json.dumps(problem(error), ensure_ascii=False, default=str).encode("utf-8", "replace")


def response(error: IntaglioError, headers: dict[str, str] | None = None) -> Response:
    """The problem as a response, with ``Retry-After`` and ``WWW-Authenticate`` where they belong."""
    headers = dict(headers or {})
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, error.retry_after))
    if error.status == 401:
        headers.setdefault("www-authenticate", "Bearer")
    _, body = render(error)
    return Response(body, error.status, headers, MEDIA_TYPE)


def framework_error(status: int, detail: str | None = None) -> IntaglioError:
    """The refusal behind a bare HTTP status (404 of an unknown path, 405 ...), for adapters with their own format."""
    return _HttpStatus(status, detail)


def invalid_request(errors: list[dict[str, Any]], body: Any = None) -> InvalidInput:
    """pydantic's findings about a request, and about its ``body`` as it came, as one refusal.

    Each names its field by JSON pointer (RFC 6901). Values are left out: what was sent may be a secret.
    """
    found = errors[:_MAX_FIELDS]
    fields = [(_location(error.get("loc", ()), body), str(error.get("msg", "is invalid"))) for error in found]
    if any(error.get("type") == "json_invalid" for error in errors):
        return InvalidInput("The body is not valid JSON.", code="invalid-json", remedy="Send a JSON document.")
    count = len(errors)
    return InvalidInput(
        f"{count} field is invalid." if count == 1 else f"{count} fields are invalid.",
        remedy="Correct the fields listed in errors.",
        fields=fields,
    )


async def _on_intaglio_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, IntaglioError)
    return response(error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    default = HTTPStatus(error.status_code).phrase
    detail = error.detail if error.detail and error.detail != default else None
    return response(_HttpStatus(error.status_code, detail), dict(error.headers or {}))


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    return response(invalid_request(list(error.errors()), getattr(error, "body", None)))  # type: ignore[attr-defined]


async def _on_lone_surrogate(request: Request, error: Exception) -> Response:
    # JSON can spell half of a character ("\\ud800"), which cannot be hashed, stored or sent (RFC 8259 section 8.2).
    return response(InvalidInput("A text holds half of a character (a lone surrogate).", code="invalid-text"))


async def _on_unexpected(request: Request, error: Exception) -> Response:
    # Starlette raises it again after this answer; the boundary logs it then, with its trace.
    return response(Unexpected())


def json_pointer(location: Sequence[str | int], document: Any) -> str:
    """The JSON pointer (RFC 6901) of a place that pydantic names in ``document``.

    pydantic also names which kind of a union it tried; that is no place in the document and is left out.
    """
    parts: list[str] = []
    for part in location:
        if isinstance(document, Mapping) and part not in document and part == document.get("kind"):
            continue
        parts.append(str(part).replace("~", "~0").replace("/", "~1"))
        document = _member(document, part)
    return "/" + "/".join(parts)


def _member(document: Any, name: str | int) -> Any:
    if isinstance(document, Mapping):
        return document.get(name)
    if isinstance(document, list) and isinstance(name, int) and name < len(document):
        return document[name]
    return None


def _location(location: Sequence[str | int], body: Any) -> str:
    if location and location[0] == "body":
        return json_pointer(location[1:], body)
    return ".".join(map(str, location))


def _pointer(target: str) -> str:
    return target if target.startswith(("/", "query.", "path.", "header.")) else f"/{target}"
