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
from intaglio.mtls.identities.domains import domain_unknown, load_all
from intaglio.mtls.identities.values import TrustDomain


def spiffe_routes(mtls: Mtls) -> list[Route]:
    """``/spiffe/{domain}/bundle.json``, to be mounted on a listener with TLS; needs no authentication.

    Raises NotFound for a trust domain that does not exist, is retired or has no CA.
    """
    documents = _Documents(mtls)

    async def bundle(request: Request) -> Response:
        content, tag = await documents.get(request.path_params["domain"])
        headers = {"etag": tag, "cache-control": f"public, max-age={REFRESH_HINT}"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type="application/json", headers=headers)

    return [Route("/spiffe/{domain}/bundle.json", bundle, methods=["GET"])]


class _Documents:
    """The documents of all trust domains at one configuration; whoever asks for others costs no query."""

    def __init__(self, mtls: Mtls) -> None:
        self._mtls = mtls
        self._epoch = -1
        self._domains: dict[str, TrustDomain] = {}
        self._made: dict[str, tuple[bytes, str]] = {}

    async def get(self, name: str) -> tuple[bytes, str]:
        """Document and entity tag. Raises NotFound."""
        snapshot = await self._mtls.gateway.snapshot()
        if snapshot.epoch != self._epoch:
            async with self._mtls.database.read() as view:
                found = await load_all(view)
            self._domains = {domain.name: domain for domain in found if domain.state != "retired"}
            self._made, self._epoch = {}, snapshot.epoch
        domain = self._domains.get(name)
        if domain is None:
            raise domain_unknown(name)
        if name not in self._made:
            bundle = bundle_of(snapshot, name, [domain])
            self._made[name] = json.dumps(spiffe_document(bundle)).encode(), f'W/"{bundle.digest[:32]}"'
        return self._made[name]
