"""The one way of every enrolment protocol: network -> limits -> approval -> gateway -> certificate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from intaglio.asn1 import algorithms, der
from intaglio.authority import certificates
from intaglio.authority.certificates import RevocationReason, StoredCertificate
from intaglio.core.errors import IntaglioError, InvalidInput, Refused, StateConflict
from intaglio.core.logging import get_logger
from intaglio.core.principal import ANONYMOUS, Principal
from intaglio.enrollment import approvals, metrics
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.endpoints import EndpointsMoved
from intaglio.enrollment.values import Applicant, Application, Endpoint, Granted, Protocol, Waiting
from intaglio.gateway.actions import act_on_certificate
from intaglio.gateway.callers import Caller
from intaglio.gateway.certification import ProvenRequest, certify
from intaglio.gateway.schemas import Action, ActionType
from intaglio.x509 import weak_keys
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.extensions import MS_NTDS_CA_SECURITY
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import Name
from intaglio.x509.requests import RequestedExtension, parse_request

log = get_logger(__name__)

_ATTEMPTS = 8
_HOUR = timedelta(hours=1)
_LONGEST_KEY = 200
_CHALLENGE_PASSWORD = der.oid("1.2.840.113549.1.9.7")
_ACTIONS = {
    RevocationReason.CERTIFICATE_HOLD: ActionType.HOLD,
    RevocationReason.REMOVE_FROM_CRL: ActionType.UNHOLD,
}


async def apply(enrollment: Enrollment, application: Application) -> Granted | Waiting:
    """Have a certificate issued, or its request wait for approval.

    Raises EndpointUnknown when the endpoint was switched off meanwhile, Forbidden (``source-not-allowed``),
    RateLimited, InvalidInput, Refused (``request-rejected``, ``request-expired`` and what the profile refuses),
    StateConflict (``request-key-reused``, a certificate to be renewed that was revoked), Unavailable.
    """
    endpoint = await enrollment.endpoints.same(application.endpoint)
    application = replace(application, endpoint=endpoint)
    endpoint.require_admitted(application.applicant.source)
    wanted = _proven(application)
    if application.previous is not None and _identifiers(wanted.extensions):
        ca = (await enrollment.gateway.snapshot()).ca(endpoint.ca)
        async with enrollment.database.read() as view:
            renewed = await certificates.get_by_id(view, ca, application.previous)
        require_own_identifier(read_certificate(renewed.der), wanted.extensions)
    if endpoint.approval == "automatic":
        await _count(enrollment, endpoint)
        return await _issue(enrollment, application, wanted)
    async with enrollment.database.transaction() as tx:
        subject = wanted.subject or wanted.given_subject
        names = () if wanted.san is None else tuple(wanted.san.text)
        shown = "" if subject is None else subject.rfc4514
        request = await approvals.enter(tx, _without_secret(application), shown, names)
    return await _continue(enrollment, endpoint, request)


async def collect(enrollment: Enrollment, endpoint: Endpoint, key: str) -> Granted | Waiting:
    """What has become of the request with this key, for protocols whose polls do not repeat it.

    Whoever asks must have proven that the request is his. Raises NotFound (``request-unknown``) and what :func:`apply`
    raises.
    """
    endpoint = await enrollment.endpoints.same(endpoint)
    async with enrollment.database.read() as view:
        request = await approvals.find(view, endpoint, key)
    if request is None:
        raise approvals.request_unknown(key)
    return await _continue(enrollment, endpoint, request)


async def revoke(
    enrollment: Enrollment,
    endpoint: Endpoint,
    applicant: Applicant,
    serial: bytes,
    reason: RevocationReason,
    *,
    idempotent: bool = False,
    comment: str = "",
    compromise_date: datetime | None = None,
) -> None:
    """Revoke a certificate of the endpoint's CA; the adapter has decided that the applicant may. The reason
    certificateHold puts it on hold, removeFromCRL takes it off again.

    Raises NotFound (``certificate-unknown``), StateConflict (``already-in-state``) unless ``idempotent``, InvalidInput.
    """
    kind = _ACTIONS.get(reason, ActionType.REVOKE)
    action = Action(
        type=kind,
        reason=None if kind is ActionType.UNHOLD else reason.text,
        comment=comment or f"asked for at {endpoint.address}",
        compromiseDate=compromise_date,
        succeedIfAlreadyInRequestedState=idempotent,
    )
    await act_on_certificate(
        enrollment.gateway, _caller(endpoint, applicant), endpoint.ca, serial, action, channel=endpoint.protocol.value
    )


async def supersede(enrollment: Enrollment, endpoint: Endpoint, applicant: Applicant, old_serial: bytes) -> None:
    """Revoke a certificate that was renewed, with the reason superseded; nothing to do when it is revoked already."""
    await revoke(
        enrollment,
        endpoint,
        applicant,
        old_serial,
        RevocationReason.SUPERSEDED,
        idempotent=True,
        comment=f"renewed at {endpoint.address}",
    )


async def presented(enrollment: Enrollment, endpoint: Endpoint, certificate: bytes) -> StoredCertificate | None:
    """A certificate (DER) of the endpoint's CA as it is recorded now, with its status; None when that CA never issued
    exactly this one. Raises InvalidInput (``certificate-unparsable``)."""
    found = await known(enrollment, read_certificate(certificate))
    return found if found is not None and found.ca_id == endpoint.ca_id else None


async def known(enrollment: Enrollment, certificate: CertificateInfo) -> StoredCertificate | None:
    """A certificate of any CA of the platform as it is recorded now; None when none of them issued exactly this one."""
    return await enrollment.recorded.find(await enrollment.gateway.snapshot(), certificate)


def refused(
    enrollment: Enrollment,
    endpoint: Endpoint | None,
    applicant: Applicant | None,
    operation: str,
    error: IntaglioError,
    *,
    protocol: Protocol | None = None,
    source: str = "",
) -> None:
    """Note a refusal for the audit trail and the log; never waits, never fails.

    Of a request without an endpoint ``protocol`` says what it was, without an applicant ``source`` whence.
    """
    spoken = endpoint.protocol if endpoint is not None else protocol
    principal = applicant.principal if applicant is not None else replace(ANONYMOUS, source=source)
    name = endpoint.address if endpoint is not None else ""
    log.info(
        "enrolment refused",
        protocol=spoken,
        endpoint=name,
        operation=operation,
        applicant=principal.name,
        source=principal.source,
        code=error.code,
        reason=error.detail,
    )
    if enrollment.refusals is not None:
        enrollment.refusals.record(
            principal,
            f"{spoken or 'enrollment'}.{operation}",
            "enrollment-endpoint",
            name,
            error,
            organization=None if endpoint is None else endpoint.organization,
        )


def served(protocol: Protocol, endpoint: Endpoint | None, operation: str, outcome: str, seconds: float) -> None:
    """Count an answered request, and tell those who look closely; ``outcome`` is granted, waiting, answered, refused
    or failed."""
    metrics.note(protocol, endpoint, operation, outcome, seconds)
    log.debug(
        "enrolment request answered",
        protocol=protocol.value,
        endpoint="" if endpoint is None else endpoint.address,
        operation=operation,
        outcome=outcome,
        milliseconds=round(seconds * 1000, 2),
    )


async def _continue(enrollment: Enrollment, endpoint: Endpoint, request: approvals.WaitingRequest) -> Granted | Waiting:
    if request.state == "pending":
        return Waiting(request.id, approvals.RETRY_AFTER)
    if request.certificate_id is not None:
        return await _issued_before(enrollment, endpoint, request.certificate_id)
    request.require_approved()
    await _count(enrollment, endpoint)
    application = approvals.keyed(request.restored(endpoint), request)
    granted = await _issue(enrollment, application, _proven(application))
    async with enrollment.database.transaction() as tx:
        await approvals.note_issued(tx, request, granted.id)
    return granted


async def _issued_before(enrollment: Enrollment, endpoint: Endpoint, certificate_id: UUID) -> Granted:
    """What came of a request. It is not asked of the gateway again, which forgets after a while what it has answered:
    one approval is good for one certificate."""
    ca = (await enrollment.gateway.snapshot()).ca(endpoint.ca)
    async with enrollment.database.read() as view:
        found = await certificates.get_by_id(view, ca, certificate_id)
    return Granted(
        found.id, found.der, ca.chain, found.serial, found.subject, found.not_before, found.not_after
    )


async def _count(enrollment: Enrollment, endpoint: Endpoint) -> None:
    """Raise RateLimited when the endpoint has issued enough for this hour. Polls of a waiting request do not count."""
    if endpoint.hourly_limit is not None:
        await enrollment.limits.take(f"issued:{endpoint.id}", endpoint.hourly_limit, _HOUR)


async def _issue(enrollment: Enrollment, application: Application, wanted: ProvenRequest) -> Granted:
    endpoint = application.endpoint
    for _ in range(_ATTEMPTS):
        try:
            issued, warnings = await certify(
                enrollment.gateway,
                _caller(endpoint, application.applicant),
                endpoint.ca,
                wanted,
                channel=endpoint.protocol.value,
                idempotency_key=_once(endpoint, application.key),
                check=enrollment.endpoints.check(endpoint),
            )
        except EndpointsMoved:
            endpoint = await enrollment.endpoints.same(endpoint)
            continue
        return Granted(
            issued.id,
            issued.der,
            issued.chain,
            issued.serial,
            issued.subject,
            issued.not_before,
            issued.not_after,
            warnings,
        )
    raise StateConflict("The configuration keeps changing.", code="configuration-changed", remedy="Try again.")


def _without_secret(application: Application) -> Application:
    """The same wish without the challenge password that a request may bring: it would be stored, and shown to whoever
    decides."""
    if application.csr is None or _CHALLENGE_PASSWORD not in application.csr:
        return application
    request = application.request or parse_request(application.csr)
    sans = application.sans
    if sans is None and request.san is not None:
        sans = tuple((each.type, each.der) for each in request.san.entries)
    return replace(
        application,
        csr=None,
        request=None,
        spki=request.spki,
        name=request.subject.der,
        sans=sans,
        extensions=request.extensions,
    )


def require_own_identifier(certificate: CertificateInfo, extensions: Sequence[RequestedExtension]) -> None:
    """Raise Refused (``name-not-allowed``) for a security identifier, by which Active Directory knows an account
    (MS-WCCE section 2.2.2.7.7.4), that a certificate does not have which is all that the applicant can show."""
    if not _identifiers(extensions) <= _identifiers(certificate.extensions):
        raise Refused(
            "The request carries a security identifier that the certificate does not have.",
            code="name-not-allowed",
            remedy="Leave it out, or enrol anew.",
        )


def _identifiers(extensions: Sequence[RequestedExtension]) -> set[bytes]:
    return {each.value for each in extensions if each.oid == MS_NTDS_CA_SECURITY}


def _once(endpoint: Endpoint, key: str | None) -> str | None:
    if key is None:
        return None
    if not 0 < len(key) <= _LONGEST_KEY or not (key.isascii() and key.isprintable()):
        raise InvalidInput(
            f"A transaction is named by 1 to {_LONGEST_KEY} printable ASCII characters.", code="request-malformed"
        )
    return f"{endpoint.id}:{key}"


def _caller(endpoint: Endpoint, applicant: Applicant) -> Caller:
    principal: Principal = applicant.principal
    return Caller.of_endpoint(principal, endpoint.ca_id)


def _proven(application: Application) -> ProvenRequest:
    """What is to be certified. Raises InvalidInput."""
    endpoint = application.endpoint
    given: Name | None = None
    san, extensions = None, application.extensions
    if application.csr is not None:
        request = application.request or parse_request(application.csr)
        spki, algorithm, given, san = request.spki, request.key_algorithm, request.subject, request.san
        extensions = request.extensions
    elif application.spki is not None:
        public_key, algorithm = algorithms.load_public_key(application.spki)
        weak_keys.check_public_key(public_key)
        spki = application.spki
        given = None if application.name is None else Name.from_der(application.name)
    else:
        raise InvalidInput("The request brings no key.", code="csr-missing")
    if application.sans is not None:
        san = GeneralNames.build(application.sans) if application.sans else None
    return ProvenRequest(
        application.profile or endpoint.profile,
        spki,
        algorithm,
        given,
        None if application.subject is None else Name.parse(application.subject),
        san,
        extensions,
        application.validity,
        application.previous,
        "p12" if application.generated else "csr",
        {"endpoint": endpoint.address},
        {
            "channel": endpoint.protocol.value,
            "endpoint": endpoint.address,
            "tenant": endpoint.tenant,
            "method": application.applicant.method,
        },
    )


