"""The application behind `/api/v1`, on the console listener and on the unix socket."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from intaglio import __version__
from intaglio.audit.refusals import RefusalRecorder
from intaglio.core.errors import IntaglioError
from intaglio.core.principal import ANONYMOUS
from intaglio.server import problems
from intaglio.server.management import enrollment, mtls
from intaglio.server.management.rooms import AppWithRooms, Room
from intaglio.server.services import Services

PREFIX = "/api/v1"
#: Everything, in the order of the documentation.
ROOMS: Final = (
    *(
        Room(f"intaglio.server.management.{module}", tuple(PREFIX + path for path in paths), PREFIX)
        for module, paths in (
            ("session", ("/login", "/logout", "/me")),
            ("users", ("/roles", "/tokens", "/users")),
            ("organizations", ("/organizations",)),
            ("authorities", ("/cas", "/organizations")),
            ("ca_lifecycle", ("/cas",)),
            ("credentials", ("/cas", "/organizations")),
            ("certificates", ("/cas", "/certificates")),
            ("profiles", ("/profiles",)),
            ("events", ("/events",)),
            ("audit", ("/audit",)),
            ("settings", ("/settings",)),
            ("platform", ("/platform", "/server-certificates", "/status")),
            ("keys", ("/keys",)),
            ("hsm", ("/hsm",)),
            ("timestamping", ("/timestamping",)),
            ("validation", ("/validation",)),
            ("ocsp_signers", ("/validation/responder", "/validation/signer-check", "/validation/signers")),
            ("declaration", ("/declaration",)),
        )
    ),
    *enrollment.ROOMS,
    *mtls.ROOMS,
)

_PROBLEM = {
    "description": "A refusal (RFC 9457).",
    "content": {
        problems.MEDIA_TYPE: {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status", "detail", "code"],
                "properties": {
                    "type": {"type": "string", "format": "uri"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string", "description": "What was wrong, and where."},
                    "code": {"type": "string", "description": "Stable code; see the list of errors."},
                    "remedy": {"type": "string", "description": "What to do."},
                    "correlationId": {"type": "string"},
                    "errors": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["pointer", "message"],
                            "properties": {"pointer": {"type": "string"}, "message": {"type": "string"}},
                        },
                    },
                },
            }
        }
    },
}

_DESCRIPTION = """\
Everything a user can configure and operate. Lists take `filter`, `sort`, `limit`, `cursor` and `total`; refusals are
problem objects (RFC 9457) with a stable `code`; times are UTC; binary values are PEM or base64."""


def management_app(services: Services, refusals: RefusalRecorder | None = None) -> AppWithRooms:
    """The management API over the services of this process.

    ``refusals`` records what is refused; without it refusals are only answered.
    """
    app = _application()
    app.state.services = services
    app.state.mtls = services.mtls
    app.state.gateway = services.mtls.gateway
    app.state.refusals = refusals
    problems.install(app)
    app.add_exception_handler(IntaglioError, _refuse)
    return app


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document of the management API."""
    return _application().openapi()


def _application() -> AppWithRooms:
    return AppWithRooms(
        ROOMS,
        title="Intaglio management API",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # the viewers load scripts from elsewhere
        redoc_url=None,
        generate_unique_id_function=_operation_id,
        responses={"default": _PROBLEM},
        separate_input_output_schemas=False,
    )


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer a refusal and note it for the audit trail."""
    assert isinstance(error, IntaglioError)
    recorder: RefusalRecorder | None = request.app.state.refusals
    if recorder is not None:
        principal = getattr(request.state, "principal", ANONYMOUS)
        action, name = _attempt(request, known=principal.kind != "anonymous")
        recorder.record(principal, action, "request", name, error)
    return problems.response(error)


def _attempt(request: Request, *, known: bool) -> tuple[str, str]:
    """What was tried: the operation of the route, and the path.

    Somebody unknown could fill the trail with paths he makes up: of his attempts only the route is told, so that equal
    ones are counted in one record.
    """
    route: Any = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return "api.unknown", f"{request.method} {request.url.path}" if known else request.method
    path = request.url.path if known else route.path
    return f"api.{route.name.replace('_', '-')}", f"{request.method} {path}"


def _operation_id(route: APIRoute) -> str:
    return route.name
