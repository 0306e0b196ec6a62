"""The SPIFFE bundle endpoint: the CAs of a trust domain for everybody, in JSON, over verified TLS.

What it says is public: every certificate of the trust domain names its CA. Source: SPIFFE Trust Domain and Bundle
section 5, profile ``https_web``.
"""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from intaglio.mtls.context import Mtls
from intaglio.mtls.identities.bundle_formats import REFRESH_HINT, spiffe_document
from intaglio.mtls.identities.bundles import bundle_of
from intaglio.mtls.identities.domains import domain_unknown, load_by_name

_LONGEST = 255


def spiffe_routes(mtls: Mtls) -> list[Route]:
    """``/spiffe/{domain}/bundle.json``, to be mounted on a listener with TLS; needs no authentication.

    Raises NotFound for a trust domain that does not exist, is retired or has no CA.
    """
    known: dict[str, tuple[int, bytes, str]] = {}

    async def bundle(request: Request) -> Response:
        content, tag = await _bundle(mtls, request.path_params["domain"], known)
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
        domain = await load_by_name(view, name[:_LONGEST])
    if domain.state == "retired":
        known.pop(name, None)
        raise domain_unknown(name)
    bundle = bundle_of(snapshot, name, [domain])
    document = json.dumps(spiffe_document(bundle)).encode()
    known[name] = snapshot.epoch, document, f'W/"{bundle.digest[:32]}"'
    return document, known[name][2]
