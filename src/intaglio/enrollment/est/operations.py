"""What an EST endpoint does: CA certificates, enrolment, renewal, keys made here. Source: RFC 7030 section 4."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import timedelta

from starlette.responses import Response

from intaglio.authority.certificates import StoredCertificate
from intaglio.authority.directory import CaView
from intaglio.core import clock
from intaglio.core.errors import Forbidden, NotFound, Refused, StateConflict
from intaglio.enrollment import approvals, credentials, pipeline
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.est import callers, encoding
from intaglio.enrollment.est.attributes import csr_attributes
from intaglio.enrollment.est.callers import Call, Known
from intaglio.enrollment.values import Application, Endpoint, Granted, Waiting
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.cms.signing import certificates_only
from intaglio.x509.requests import CertificateRequest, parse_request

#: How long a request may be repeated for nothing: less than answers are kept (``authority.upkeep``).
REPEATED_WITHIN = timedelta(hours=12)
NO_CONTENT = 204
WAITING = 202


async def ca_certificates(enrollment: Enrollment, endpoint: Endpoint) -> Response:
    """The chain of the CA, and the certificates of its earlier keys. Source: RFC 7030 section 4.1.3.

    Raises StateConflict while the CA has no certificate.
    """
    ca = (await enrollment.gateway.snapshot()).ca(endpoint.ca)
    if not ca.chain:
        raise StateConflict(f'CA "{ca.full_id}" has no certificate yet.', code="ca-not-active")
    return encoding.answer(certificates_only([*ca.chain, *_earlier(ca)]), encoding.CERTIFICATES)


def attributes(endpoint: Endpoint) -> Response:
    """What clients are told to put into their requests; nothing when there is nothing to say."""
    found = csr_attributes(endpoint.options)
    return Response(status_code=NO_CONTENT) if found is None else encoding.answer(found, encoding.ATTRIBUTES)


async def enroll(enrollment: Enrollment, endpoint: Endpoint, call: Call, body: bytes) -> Response:
    """simpleenroll: a certificate for whoever may have one. Source: RFC 7030 section 4.2.1."""
    known = await callers.identify(enrollment, endpoint, call)
    request = read_request(body)
    return await certify(enrollment, endpoint, call, known, request)


async def certify(
    enrollment: Enrollment, endpoint: Endpoint, call: Call, known: Known, request: CertificateRequest
) -> Response:
    """The certificate for a request of somebody who is known, or that it waits."""
    require_linked(endpoint, call, request)
    known.require_names(endpoint, request)
    await use_up(enrollment, endpoint, known, request.der)
    application = Application(
        endpoint,
        known.applicant,
        csr=request.der,
        request=request,
        key=once(known, request.der),
        note=_note(known),
    )
    return answer(await pipeline.apply(enrollment, application))


async def renew(enrollment: Enrollment, endpoint: Endpoint, call: Call, body: bytes) -> Response:
    """simplereenroll: the same names again, with the same key or another. Source: RFC 7030 section 4.2.2."""
    known = await callers.identify_for_renewal(enrollment, endpoint, call)
    request = read_request(body)
    require_linked(endpoint, call, request)
    old = await _renewed(enrollment, endpoint, known, request)
    info = read_certificate(old.der)
    _require_same_names(info, request)
    if old.profile != endpoint.profile:
        raise Refused(
            f'The certificate is of profile "{old.profile}", and this endpoint issues "{endpoint.profile}".',
            code="certificate-other-profile",
            remedy="Renew it at the endpoint of its profile.",
        )
    await use_up(enrollment, endpoint, known, request.der)
    names = () if info.san is None else tuple((each.type, each.der) for each in info.san.entries)
    application = Application(
        endpoint,
        known.applicant,
        csr=request.der,
        request=request,
        sans=names,
        key=once(known, request.der),
        previous=old.id,
        note=f"renews {old.serial_hex}",
    )
    found = await pipeline.apply(enrollment, application)
    if isinstance(found, Granted) and endpoint.options.revoke_renewed and known.is_holder:
        await pipeline.supersede(enrollment, endpoint, known.applicant, old.serial)
    return answer(found)


def answer(found: Granted | Waiting) -> Response:
    """A certificate by itself, or when to ask again. Source: RFC 7030 section 4.2.3."""
    if isinstance(found, Waiting):
        return Response(
            f"The request {found.request_id} waits for approval.\n",
            WAITING,
            {"retry-after": str(found.retry_after), "cache-control": "no-store"},
            "text/plain",
        )
    return encoding.answer(certificates_only([found.certificate]), encoding.CERTIFICATES)


def read_request(body: bytes) -> CertificateRequest:
    """The PKCS #10 request in a body, its signature checked. Raises InvalidInput, TooLarge."""
    return parse_request(encoding.decode(body))


async def use_up(enrollment: Enrollment, endpoint: Endpoint, known: Known, request: bytes) -> None:
    """Count the use of a password that may be used so many times; a request that is repeated counts once, for as long
    as it gets the same certificate."""
    if known.credential is not None and known.credential.uses_left is not None:
        within = approvals.WAITS * 2 if endpoint.approval == "manual" else REPEATED_WITHIN
        async with enrollment.database.transaction() as tx:
            transaction = hashlib.sha256(request).hexdigest()
            await credentials.spend_for(tx, known.credential, transaction, again_within=within)


def once(known: Known, request: bytes) -> str | None:
    """The key under which a repeated request gets the same certificate, where its password would not do twice."""
    if known.credential is None or known.credential.uses_left is None:
        return None
    return f"{known.credential.id}:{hashlib.sha256(request).hexdigest()}"


def require_linked(endpoint: Endpoint, call: Call, request: CertificateRequest) -> None:
    """Raise Forbidden (``connection-not-linked``) unless the request was made for this TLS connection, where that is
    asked for. Sources: RFC 7030 section 3.5, RFC 9266 (TLS 1.3)."""
    wanted, challenge = endpoint.options.link_to_connection, request.challenge_password
    if wanted == "off" or (wanted == "when-present" and challenge is None):
        return
    try:
        shown = base64.b64decode(challenge or "", validate=True)
    except (binascii.Error, ValueError):
        shown = b""
    if not shown or True not in [hmac.compare_digest(shown, each) for each in call.bindings()]:
        raise Forbidden(
            "The challengePassword of the request does not name this TLS connection.",
            code="connection-not-linked",
            remedy="Put tls-unique (TLS 1.2) or tls-exporter (TLS 1.3) into it, in base64; or leave it out where the "
            "endpoint does not want it.",
        )


async def _renewed(
    enrollment: Enrollment, endpoint: Endpoint, known: Known, request: CertificateRequest
) -> StoredCertificate:
    """The certificate to renew: the one that was presented, else the newest of the subject, of somebody who may have
    it."""
    if known.certified is not None and known.certified.stored is not None:
        return known.certified.stored
    known.require_names(endpoint, request)
    ca = (await enrollment.gateway.snapshot()).ca(endpoint.ca)
    found = await enrollment.gateway.connector(ca).newest_of(ca, request.subject)
    found.require_renewable()
    if found.state(clock.now()) != "valid":
        raise NotFound(
            f'The certificate of "{request.subject.rfc4514[:200]}" has expired.',
            code="certificate-expired",
            remedy="Enrol anew with simpleenroll.",
        )
    return found


def _require_same_names(info: CertificateInfo, request: CertificateRequest) -> None:
    """Subject and alternative names stay; a request without alternative names has those of the certificate."""
    wanted = None if request.san is None else sorted(entry.der for entry in request.san.entries)
    present = [] if info.san is None else sorted(entry.der for entry in info.san.entries)
    if request.subject.key != info.subject.key or wanted not in (None, present):
        raise Refused(
            "Subject and alternative names of the request are not those of the certificate.",
            code="names-changed",
            remedy="Repeat the names of the certificate; for others enrol with simpleenroll.",
        )


def _earlier(ca: CaView) -> list[bytes]:
    """Certificates of the CA's earlier keys that have not expired."""
    now = clock.now()
    return [
        key.certificate.der
        for generation, key in sorted(ca.keys.items(), reverse=True)
        if generation != ca.generation and key.certificate is not None and now <= key.certificate.not_after
    ]


def _note(known: Known) -> str:
    shown = known.certified
    return "" if shown is None else f"came with the certificate {shown.info.subject.rfc4514[:300]}"
