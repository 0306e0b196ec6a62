"""The SPIFFE bundle endpoint: the CAs of a trust domain for everybody, in JSON, over verified TLS.

What it says is public: every certificate of the trust domain names its CA. Source: SPIFFE Trust Domain and Bundle
section 5, profile ``https_web``.
"""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from intaglio.core.errors import IntaglioError, NotFound
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities.bundle_formats import REFRESH_HINT, spiffe_document
from intaglio.mtls.identities.bundles import bundle_of
from intaglio.mtls.identities.domains import domain_unknown, load_by_name
from intaglio.mtls.identities.names import domain_name


def spiffe_routes(mtls: Mtls) -> list[Route]:
    """``/spiffe/{domain}/bundle.json``, to be mounted on a listener with TLS; needs no authentication."""
    known: dict[str, tuple[int, bytes, str]] = {}

    async def bundle(request: Request) -> Response:
        name = request.path_params["domain"]
        try:
            content, tag = await _bundle(mtls, name, known)
        except NotFound as error:
            return _problem(domain_unknown(name) if error.code != "bundle-empty" else error)
        except IntaglioError as error:
            return _problem(error)
        headers = {"etag": tag, "cache-control": f"public, max-age={REFRESH_HINT}"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type="application/json", headers=headers)

    return [Route("/spiffe/{domain}/bundle.json", bundle, methods=["GET"])]


async def _bundle(mtls: Mtls, name: str, known: dict[str, tuple[int, bytes, str]]) -> tuple[bytes, str]:
    """Document and entity tag, kept until the configuration changes; at most one entry per trust domain."""
    snapshot = await mtls.gateway.snapshot()
    kept = known.get(name)
    if kept is not None and kept[0] == snapshot.epoch:
        return kept[1], kept[2]
    async with mtls.database.read() as view:
        domain = await load_by_name(view, domain_name(name))
    if domain.state == "retired":
        known.pop(name, None)
        raise domain_unknown(name)
    bundle = bundle_of(snapshot, name, [domain])
    document = json.dumps(spiffe_document(bundle)).encode()
    known[name] = snapshot.epoch, document, f'"{bundle.digest[:32]}"'
    return document, known[name][2]


def _problem(error: IntaglioError) -> Response:
    status = 404 if error.status == 400 else error.status
    body = {"title": "No bundle", "status": status, "detail": error.detail, "code": error.code, "remedy": error.remedy}
    return JSONResponse(body, status, media_type="application/problem+json")
