"""Browser enrolment: what the page calls. None of it needs a token; a security code is the proof."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from intaglio.mtls.enrolment import answers, bodies, enrolling, policy, self_service, sessions, trust_files
from intaglio.mtls.enrolment.sessions import Visitor
from intaglio.mtls.enrolment.settings import EnrolmentSettings
from intaglio.mtls.identities.values import Identity
from intaglio.platform import live_settings
from intaglio.server.management.access import source_of, visitor
from intaglio.server.management.mtls.given import GivenMtls

router = APIRouter(prefix="/enrol/v1", tags=["enrolment"])


class Ca(BaseModel):
    """A CA as people compare it."""

    subject: str
    sha256: str


class Policy(BaseModel):
    """What holds for whoever enrols now."""

    domain: str
    organization: str
    title: str
    ca: Ca
    server_ca: Ca | None
    key_algorithm: str
    key_algorithms: list[str]
    validity_days: float
    p12_variants: list[str]
    test_url: str
    renew_url: str


class Session(BaseModel):
    """A session of ten minutes: `nonce` is the challengePassword of the request, `identity` its common name."""

    session: str
    identity: str
    email: str
    nonce: str
    key_algorithm: str
    expires_at: datetime
    domain: str


class Certificate(BaseModel):
    """The certificate, and its issuers upwards."""

    certificate: str
    chain: list[str]
    serial: str
    identity: str
    not_before: datetime
    not_after: datetime


class Revoked(BaseModel):
    """How many certificates were revoked."""

    revoked: int


def _body(**members: str) -> dict[str, Any]:
    """The description of a body that is read by hand (see ``bodies``)."""
    properties = {name: {"type": "string", "description": text} for name, text in members.items()}
    schema = {"type": "object", "required": list(members), "properties": properties, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


_CODE = _body(code="The security code.", email="An address it was made for.")


@router.get("/policy")
async def get_enrolment_policy(
    mtls: GivenMtls, request: Request, response: Response, domain: str | None = None
) -> Policy:
    """Algorithm, validity, CA and addresses, for the page to show."""
    response.headers["cache-control"] = "no-store"
    found = await policy.public_policy(mtls, domain, request.headers.get("host", ""))
    return Policy.model_validate(answers.policy(found))


@router.post("/sessions", status_code=201, openapi_extra=_CODE)
async def begin_session(mtls: GivenMtls, request: Request, response: Response) -> Session:
    """Exchange a security code for a session."""
    response.headers["cache-control"] = "no-store"
    given = bodies.read_texts(await _screened(mtls, request, "sessions"), ["code", "email"])
    opened = await sessions.begin_session(mtls, given["code"], given["email"], _visitor(request))
    async with mtls.database.read() as view:
        settings = await live_settings.current(view, EnrolmentSettings)
    return Session.model_validate(answers.session(opened, settings.key_algorithms[0]))


@router.post("/sessions/{session}/csr", openapi_extra=_body(csr="PKCS #10 in PEM, or base64 DER."))
async def submit_request(mtls: GivenMtls, request: Request, response: Response, session: str) -> Certificate:
    """Have the request of a session certified. The same request again gets the same certificate."""
    response.headers["cache-control"] = "no-store"
    body = await _screened(mtls, request, "csr", await enrolling.session_owner(mtls, session))
    csr = bodies.read_csr(body, request.headers.get("content-type", ""))
    issued = await enrolling.submit_request(mtls, session, csr, _visitor(request))
    return Certificate.model_validate(answers.certificate(issued))


@router.post("/sessions/{session}/downloaded", status_code=204)
async def note_download(mtls: GivenMtls, request: Request, session: str) -> None:
    """Say that the file has reached its user."""
    await sessions.note_download(mtls, session, _visitor(request))


@router.post("/revoke", openapi_extra=_CODE)
async def revoke_mine(mtls: GivenMtls, request: Request) -> Revoked:
    """Revoke one's own certificates with a fresh security code (a lost device). The code stays good for a new one."""
    given = bodies.read_texts(await _screened(mtls, request, "revoke"), ["code", "email"])
    count = await self_service.revoke_by_code(mtls, given["code"], given["email"], _visitor(request))
    return Revoked(revoked=count)


@router.get("/ca.pem", response_class=Response, responses={200: {"content": {trust_files.PEM_TYPE: {}}}})
async def get_ca_pem(mtls: GivenMtls, domain: str | None = None) -> Response:
    """The CA certificates to trust, in PEM."""
    files = await policy.trust_files(mtls, domain)
    return _file(trust_files.as_pem(files).encode(), trust_files.PEM_TYPE, "ca.pem")


@router.get("/ca.cer", response_class=Response, responses={200: {"content": {trust_files.DER_TYPE: {}}}})
async def get_ca_der(mtls: GivenMtls, domain: str | None = None) -> Response:
    """The CA certificate of the trust domain, in DER."""
    files = await policy.trust_files(mtls, domain)
    return _file(trust_files.as_der(files), trust_files.DER_TYPE, "ca.cer")


@router.get(
    "/ca.mobileconfig", response_class=Response, responses={200: {"content": {trust_files.MOBILECONFIG_TYPE: {}}}}
)
async def get_ca_mobileconfig(mtls: GivenMtls, domain: str | None = None) -> Response:
    """The CA certificates as a configuration profile for Apple devices."""
    files = await policy.trust_files(mtls, domain)
    return _file(trust_files.as_mobileconfig(files), trust_files.MOBILECONFIG_TYPE, "ca.mobileconfig")


def _file(body: bytes, media_type: str, name: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-cache"}
    return Response(body, media_type=media_type, headers=headers)


def _visitor(request: Request) -> Visitor:
    return Visitor(source_of(request), request.headers.get("user-agent", ""))


async def _screened(mtls: GivenMtls, request: Request, at: str, owner: Identity | None = None) -> bytes:
    return await bodies.screened(mtls, visitor(request), await request.body(), at=at, identity=owner)
