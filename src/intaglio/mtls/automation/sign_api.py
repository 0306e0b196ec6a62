"""``POST /mtls/v1/sign``: what agents ask for their certificates.

Who asks proves it with the client certificate of the connection, with a bootstrap token, or with the identity token of
a CI system or cluster (both as ``Authorization: Bearer``).
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from intaglio.core import clock
from intaglio.core.clock import rfc3339
from intaglio.core.errors import InvalidInput, Refused
from intaglio.core.identifiers import serial_hex
from intaglio.mtls.automation import pipelines, proving, token_text
from intaglio.mtls.automation.issuer_keys import IssuerKeys
from intaglio.mtls.automation.signing import Signed, Wish, sign_for_holder, sign_for_token, sign_within
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment import bodies
from intaglio.mtls.identities import lifetimes
from intaglio.mtls.identities.values import Channel
from intaglio.x509.certificates import pem
from intaglio.x509.requests import parse_request

_JSON = "application/json"


class SignRequest(BaseModel):
    """A certificate request in PEM, of which only the key counts; ``lifetime`` is an ISO 8601 duration, ``dns_names``
    are below registered ones, ``pipeline`` says by which pipeline an identity token counts."""

    model_config = ConfigDict(extra="forbid")

    csr: str = Field(max_length=128 * 1024)
    lifetime: str = Field(default="", max_length=40)
    dns_names: list[str] = Field(default=[], max_length=50)
    pipeline: str = Field(default="", max_length=64)

    @property
    def wish(self) -> Wish:
        span = lifetimes.duration_of(self.lifetime, target="lifetime") if self.lifetime else None
        return Wish(self.csr, span, self.dns_names)


class SignEndpoint:
    """The endpoint of one process; ``keys`` are those of token issuers."""

    def __init__(self, mtls: Mtls, keys: IssuerKeys) -> None:
        self._mtls, self._keys = mtls, keys

    async def answer(self, request: Request) -> Response:
        """Certificate, chain, bundle and CRL addresses, in PEM and JSON."""
        proving.nobody(request)
        async with proving.failures_counted(self._mtls, request):
            signed = await self._signed(request)
        return JSONResponse(shown(signed), headers={"cache-control": "no-store"})

    async def _signed(self, request: Request) -> Signed:
        token = proving.bearer_of(request)
        source, agent = proving.source_of(request), request.headers.get("user-agent", "")
        if token is None:
            identity, binding = await proving.holder(self._mtls, request)
            wish = (await self._read(request)).wish
            return await sign_for_holder(self._mtls, identity, binding, wish, source=source, user_agent=agent)
        asked = await self._read(request)
        if token.startswith(token_text.BOOTSTRAP):
            return await sign_for_token(self._mtls, token, asked.wish, source=source, user_agent=agent)
        if not asked.pipeline:
            raise InvalidInput(
                "An identity token counts by a pipeline.",
                code="pipeline-missing",
                remedy='Name it in "pipeline"; intaglio mtls pipeline list shows them.',
                target="pipeline",
            )
        wish, csr = asked.wish, parse_request(asked.csr)
        key = hashlib.sha256(csr.spki).digest()
        job = await pipelines.job_of(self._mtls, self._keys, asked.pipeline, token, used_for=key)
        proving.proved(request, job.identity)
        lifetime = lifetime_within(wish.lifetime, job.longest, job.not_beyond)
        return await sign_within(
            self._mtls, job.identity, csr, Channel.PIPELINE, lifetime=lifetime, dns_names=wish.dns_names,
            source=source, user_agent=agent,
            ground=partial(pipelines.require_unchanged, pipeline_id=job.pipeline.id, version=job.pipeline.version),
        )  # fmt: skip

    async def _read(self, request: Request) -> SignRequest:
        """The request, in JSON or as it is. Raises InvalidInput, TooLarge."""
        body = await bodies.screened(self._mtls, request.state.principal, await request.body(), at="sign")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
            return SignRequest(csr=body.decode("latin-1"), pipeline=request.query_params.get("pipeline", "")[:64])
        return _read_json(body)


def lifetime_within(wanted: timedelta | None, longest: timedelta, not_beyond: datetime | None) -> timedelta:
    """The life of a certificate whose ground ends. Raises Refused (``lifetime-above-ceiling``) for more than that."""
    most = longest
    if not_beyond is not None:
        most = min(most, not_beyond - clock.now())
    if most < lifetimes.SHORTEST:
        raise Refused(
            "What proves this identity ends too soon for a certificate.",
            code="ground-ends-soon",
            remedy="Ask earlier, with a fresh token.",
        )
    if wanted is not None and wanted > most:
        raise Refused(
            f"This certificate may live for {lifetimes.text_of(most)}, not {lifetimes.text_of(wanted)}.",
            code="lifetime-above-ceiling",
            remedy="Ask for less, or leave the lifetime out.",
            target="lifetime",
        )
    return timedelta(seconds=int((wanted or most).total_seconds()))


def shown(signed: Signed) -> dict[str, Any]:
    """The JSON of a certificate with what belongs to it."""
    issued = signed.issued
    return {
        "identity": issued.identity.uri,
        "certificate": pem(issued.certificate),
        "chain": [pem(each) for each in issued.chain],
        "bundle": [pem(each) for each in signed.anchors],
        "issuers": [pem(each) for each in signed.issuers],
        "crl_urls": list(signed.crl_urls),
        "serial": serial_hex(issued.serial),
        "not_before": rfc3339(issued.not_before),
        "not_after": rfc3339(issued.not_after),
        "renew_after_seconds": int(signed.renew_after.total_seconds()),
        "warnings": list(issued.warnings),
    }


def _read_json(body: bytes) -> SignRequest:
    """A JSON body. Raises InvalidInput, which never quotes the body."""
    try:
        return SignRequest.model_validate(json.loads(body))
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False)
        fields = [("/".join(map(str, each["loc"])), each["msg"]) for each in wrong[:20]]
        raise InvalidInput(
            "The body is not as it should be.", code="body-invalid", remedy="Correct what is named.", fields=fields
        ) from None
    except (ValueError, RecursionError):
        raise InvalidInput(
            "The body is not valid JSON.", code="invalid-json", remedy='Send an object with "csr".'
        ) from None
