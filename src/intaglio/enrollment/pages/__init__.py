"""The page that shows the people of a tenant where certificates are asked for, with commands to copy.

It tells what every client has to know anyway, and only to who knows the name of the tenant and may ask at the endpoint;
there is no list of tenants. It works without its script, which merely copies.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.settings import EnrollmentSettings
from intaglio.enrollment.urls import Bases, EndpointUrls, asked_base, bases, source_of, urls_of
from intaglio.enrollment.values import PROTOCOL_TITLES
from intaglio.platform import live_settings

_FOLDER = Path(__file__).parent
_FILES: Final = {"page.css": "text/css", "copy.js": "text/javascript"}
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'none'; frame-ancestors 'none'; "
    "base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


def routes(enrollment: Enrollment) -> list[BaseRoute]:
    """The page of each tenant at ``/urls/{tenant}``, and its files."""

    async def page(request: Request) -> Response:
        return await _page(enrollment, request)

    return [
        Route("/urls/-/{file}", _file, methods=["GET"]),
        Route("/urls/{tenant}", page, methods=["GET"]),
    ]


async def _page(enrollment: Enrollment, request: Request) -> Response:
    async with enrollment.database.read() as view:
        live = await live_settings.current(view, EnrollmentSettings)
    tenant = request.path_params["tenant"]
    source = source_of(live, request.scope)
    found = [
        each
        for each in await enrollment.endpoints.all()
        if each.tenant == tenant and each.enabled and each.is_admitted(source)
    ]
    if not found or not live.pages:
        return _plain("There is no such page.\n", 404)
    where = Bases(asked_base(enrollment.settings, live, request.scope), bases(enrollment.settings, live).http)
    shown = [_shown(urls_of(endpoint, where)) for endpoint in found]
    text = _template().render(tenant=tenant, endpoints=sorted(shown, key=lambda each: (each["protocol"], each["name"])))
    return Response(text, media_type="text/html", headers=_headers("no-cache"))


def _shown(one: EndpointUrls) -> dict[str, Any]:
    endpoint = one.endpoint
    return {
        "name": endpoint.name,
        "protocol": PROTOCOL_TITLES[endpoint.protocol],
        "ca": endpoint.ca,
        "profile": endpoint.profile,
        "approval": endpoint.approval,
        "urls": one.urls,
        "commands": [{"title": each.title, "text": "\n".join(each.lines)} for each in one.commands],
    }


async def _file(request: Request) -> Response:
    name = request.path_params["file"]
    if name not in _FILES:
        return _plain("There is no such file.\n", 404)
    return Response(_read(name), media_type=_FILES[name], headers=_headers("max-age=3600"))


@cache
def _read(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()


@cache
def _template() -> Template:
    loader = FileSystemLoader(_FOLDER)
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return made.get_template("page.html.j2")


def _headers(caching: str) -> dict[str, str]:
    return {
        "cache-control": caching,
        "content-security-policy": _POLICY,
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }


def _plain(text: str, status: int) -> Response:
    return PlainTextResponse(text, status, headers=_headers("no-store"))
