"""PKCSReq and RenewalReq: who asks, may he, and what comes of it.

1. parse the request   2. a certificate of ours that asks for its successor, or somebody with a challenge
3. note the transaction   4. the one way to a certificate   5. revoke what was renewed, where the endpoint wants that.
Source: RFC 8894 sections 2.3, 2.4 and 3.3.1.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from sqlalchemy import select

from intaglio.authority import certificates
from intaglio.authority.certificates import RevocationReason, StoredCertificate
from intaglio.authority.models import certificate as certificate_table
from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.errors import Forbidden, InvalidInput, NotFound, Refused, Unauthenticated, Unavailable
from intaglio.enrollment import challenges, pipeline
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.credentials import credential_unknown
from intaglio.enrollment.endpoints import canonical_profile
from intaglio.enrollment.scep.errors import content_unreadable
from intaglio.enrollment.scep.messages import Envelope, MessageType
from intaglio.enrollment.scep.options import ScepOptions
from intaglio.enrollment.scep.transactions import Entry, Transactions, key_digest, wish_of
from intaglio.enrollment.values import Applicant, Application, Endpoint, Granted, Waiting
from intaglio.profiles.model import CertificateProfile
from intaglio.x509 import extensions as ext
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.requests import CertificateRequest, parse_request

_LONGEST_NAME: Final = 200
#: How long to wait for somebody else who answers the same message, and how often to look, in seconds.
_PATIENCE: Final = 10.0
_LOOK_AGAIN: Final = 0.05
#: Certificates are dated in whole seconds by the process, transactions by the database.
_CLOCKS_DIFFER: Final = timedelta(seconds=2)


@dataclass(frozen=True)
class Asked:
    """A verified message with its request. ``certificate`` is the one it was signed with, ``existing`` the same as the
    CA has it recorded, when it is one of its own."""

    endpoint: Endpoint
    envelope: Envelope
    certificate: CertificateInfo
    existing: StoredCertificate | None
    request: CertificateRequest
    source: str

    @property
    def options(self) -> ScepOptions:
        found: ScepOptions = self.endpoint.options
        return found

    @property
    def is_renewal(self) -> bool:
        """Whether a certificate asks for its successor. Clients of older drafts (Cisco IOS, certmonger without the
        capability Renewal) do so by PKCSReq, and give no challenge then."""
        if self.envelope.message_type == MessageType.RENEWAL_REQ:
            return True
        return self.existing is not None and not self.request.challenge_password

    def applicant(self, method: str) -> Applicant:
        name = self.request.subject.rfc4514 or "(empty subject)"
        return Applicant(name[:_LONGEST_NAME], method, self.source)  # type: ignore[arg-type]  # one of the methods


@dataclass(frozen=True)
class Issuing:
    """What requests are answered with in one process."""

    enrollment: Enrollment
    transactions: Transactions


async def issue(
    office: Issuing, endpoint: Endpoint, envelope: Envelope, certificate: CertificateInfo, content: bytes, source: str
) -> bytes | Waiting:
    """The certificate (DER) that comes of a request. Raises what its steps raise."""
    enrollment = office.enrollment
    asked = await _read(enrollment, endpoint, envelope, certificate, content, source)
    _require_usages(await _profile(enrollment, endpoint), asked)
    if asked.is_renewal:
        return await _renew(office, asked)
    applicant, once = await _authenticate(enrollment, asked)
    wish = wish_of(asked.request)
    return await _apply(office, asked, applicant, await _enter(office, asked, wish), wish, once=once)


async def _read(
    enrollment: Enrollment, endpoint: Endpoint, envelope: Envelope, certificate: CertificateInfo, content: bytes,
    source: str,
) -> Asked:  # fmt: skip
    try:
        request = parse_request(content)
    except InvalidInput as error:
        raise error if _is_authentic(content) else content_unreadable() from None
    existing = None
    if not certificate.is_self_issued:
        existing = await pipeline.presented(enrollment, endpoint, certificate.der)
    return Asked(endpoint, envelope, certificate, existing, request, source)


def _is_authentic(content: bytes) -> bool:
    """Whether a request that is refused is one that its key signed, and no message of somebody else that was changed.
    Only then may the refusal say what is wrong with it."""
    try:
        return x509.load_der_x509_csr(content).is_signature_valid
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return False


# ---- the first certificate -------------------------------------------------------------------------------------------


async def _authenticate(enrollment: Enrollment, asked: Asked) -> tuple[Applicant, bool]:
    """Who asks for a first certificate, and whether there is never to be a second one for the same.

    Raises Unauthenticated, Refused, RateLimited, Unavailable.
    """
    request, options = asked.request, asked.options
    if asked.certificate.spki != request.spki and asked.existing is None and not options.relayed_requests:
        raise Refused(
            "The message is signed with another key than that of its request.",
            code="scep-signer-differs",
            remedy="Sign with the key that is to be certified; for connectors that pass on requests, set the option "
            "relayed_requests.",
        )
    if not request.challenge_password:
        if options.empty_challenge:
            return asked.applicant("none"), False
        raise Unauthenticated(
            "The request has no challenge password.",
            code="scep-challenge-missing",
            remedy="Put the challenge password of the endpoint into the request.",
        )
    redeemed = await challenges.redeem(
        enrollment,
        asked.endpoint,
        request.challenge_password,
        transaction=_transaction_of(asked),
        subject=request.subject.rfc4514,
        source=asked.source,
    )
    redeemed.bound.require(request.subject, request.san, request.extensions)
    return asked.applicant("challenge"), redeemed.kind in ("one-time", "derived")


def _transaction_of(asked: Asked) -> str:
    """What a one-time challenge is bound to: the transaction, the key that signs it, and what it asks for."""
    signer, wish = key_digest(asked.certificate.spki), wish_of(asked.request)
    return f"{asked.envelope.transaction.hex()}:{signer.hex()}:{wish.hex()}"


# ---- renewal ---------------------------------------------------------------------------------------------------------


async def _renew(office: Issuing, asked: Asked) -> bytes | Waiting:
    existing = _require_own(asked)
    wish = wish_of(asked.request, existing.serial)
    entry = await _enter(office, asked, wish)
    # Who repeats his message because the answer was lost finds his old certificate superseded already.
    if not (entry.repeated and existing.reason is RevocationReason.SUPERSEDED):
        existing.require_renewable()
    applicant = asked.applicant("certificate")
    outcome = await _apply(office, asked, applicant, entry, wish, existing)
    if asked.options.revoke_on_renewal and not isinstance(outcome, Waiting):
        await pipeline.supersede(office.enrollment, asked.endpoint, applicant, existing.serial)
    return outcome


def _require_own(asked: Asked) -> StoredCertificate:
    """The certificate that asks for its successor, if this one may have one. Raises NotFound, Forbidden, Refused."""
    existing, options = asked.existing, asked.options
    if existing is None:
        raise NotFound(
            "A renewal is signed with a certificate that this CA issued, and this one is none.",
            code="scep-certificate-unknown",
            remedy="Enrol anew, with a challenge password.",
        )
    if not options.renewal:
        raise Forbidden("Certificates are not renewed here.", code="scep-renewal-off", remedy="Enrol anew.")
    if existing.profile != canonical_profile(asked.endpoint.profile):
        raise Refused(
            f'The certificate is of profile "{existing.profile}", and here is "{asked.endpoint.profile}".',
            code="scep-renewal-profile",
            remedy="Renew where the certificate came from, or enrol anew.",
        )
    _require_names(asked.request, read_certificate(existing.der))
    _require_period(existing, options)
    return existing


def _require_names(request: CertificateRequest, certificate: CertificateInfo) -> None:
    """A renewal is for the same name, and for no other alternative names. Raises Refused."""
    allowed = {entry.der for entry in certificate.san.entries} if certificate.san else set()
    added = [entry.text for entry in request.san.entries if entry.der not in allowed] if request.san else []
    if request.subject.key != certificate.subject.key or added:
        what = f"the name {added[0][:100]}" if added else f'the subject "{request.subject.rfc4514[:100]}"'
        raise Refused(
            f"The renewal asks for {what}, which the certificate does not have.",
            code="scep-renewal-names",
            remedy="Ask for the same names, or enrol anew with a challenge password.",
        )


def _require_period(existing: StoredCertificate, options: ScepOptions) -> None:
    now, grace = clock.now(), timedelta(days=options.renewal_grace_days)
    if now > existing.not_after + grace:
        raise Refused(
            f"The certificate ended on {existing.not_after:%Y-%m-%d %H:%M} UTC and cannot be renewed any more.",
            code="scep-renewal-late",
            remedy="Enrol anew, with a challenge password.",
        )
    window = options.renewal_window_days
    if window is not None and now < existing.not_after - timedelta(days=window):
        raise Refused(
            f"The certificate can be renewed in the last {window} days before its end, "
            f"{existing.not_after:%Y-%m-%d %H:%M} UTC.",
            code="scep-renewal-early",
            remedy="Try again later.",
        )


# ---- both ------------------------------------------------------------------------------------------------------------


async def _apply(
    office: Issuing,
    asked: Asked,
    applicant: Applicant,
    entry: Entry,
    wish: bytes,
    previous: StoredCertificate | None = None,
    *,
    once: bool = False,
) -> bytes | Waiting:
    """The certificate (DER): that of before when it was asked for before and is still good. Who asks at the same moment
    as somebody else, on another connection, waits for what comes of that. With ``once`` there is none after the first,
    not even when that was revoked."""
    application = Application(
        asked.endpoint,
        applicant,
        csr=asked.request.der,
        request=asked.request,
        key=entry.key if asked.endpoint.approval == "manual" else None,
        previous=None if previous is None else previous.id,
        note=f"SCEP transaction {asked.envelope.name[:100]}",
    )
    give_up = monotonic() + _PATIENCE
    while entry.repeated:
        if (found := await _of_before(office, asked, entry)) is not None:
            return found
        if once and entry.certificate_id is not None:
            raise credential_unknown()
        if entry.mine:
            break
        if monotonic() > give_up:
            raise _busy()
        await asyncio.sleep(_LOOK_AGAIN)
        entry = await _enter(office, asked, wish)
    issued: UUID | None = None
    try:
        outcome = await pipeline.apply(office.enrollment, application)
        issued = outcome.id if isinstance(outcome, Granted) else None
    finally:
        office.transactions.note(entry, issued)
    return outcome.certificate if isinstance(outcome, Granted) else outcome


async def _enter(office: Issuing, asked: Asked, wish: bytes) -> Entry:
    return await office.transactions.enter(asked.endpoint, asked.envelope.transaction, asked.certificate.spki, wish)


async def _of_before(office: Issuing, asked: Asked, entry: Entry) -> bytes | Waiting | None:
    """What came of the same wish before: a request that waits, a good certificate, or nothing yet."""
    try:
        outcome = await pipeline.collect(office.enrollment, asked.endpoint, entry.key)
    except NotFound as error:
        if error.code != "request-unknown":
            raise
    else:
        if isinstance(outcome, Waiting) or await _is_good(office, asked.endpoint, outcome.certificate):
            return outcome if isinstance(outcome, Waiting) else outcome.certificate
    if entry.certificate_id is not None:
        found = await certified(office.enrollment, asked.endpoint, entry.certificate_id)
        if found is not None and found.reason is RevocationReason.KEY_COMPROMISE:
            # Whoever has the key, and what its owner once sent, would be certified by sending it again.
            raise Refused(
                "A certificate for this key was revoked because the key was compromised.",
                code="key-compromised",
                remedy="Make a new key.",
            )
        return found.der if found is not None and found.status == "valid" else None
    return await _left_behind(office, asked, entry) if entry.mine else None


async def _left_behind(office: Issuing, asked: Asked, entry: Entry) -> bytes | None:
    """A certificate of this wish whose issuer died before he could note it. It is found by its key."""
    request, c = asked.request, certificate_table.c
    names = [] if request.san is None else list(request.san.text)
    query = select(c.id, c.der).where(
        c.spki_sha256 == hashlib.sha256(request.spki).digest(),
        c.ca_id == asked.endpoint.ca_id,
        c.subject_key == request.subject.key,
        c.sans == names,
        c.channel == asked.endpoint.protocol.value,
        c.status == "valid",
        c.issued_at >= entry.since - _CLOCKS_DIFFER,
    )
    async with office.enrollment.database.read() as view:
        row = await view.one_or_none(query.order_by(c.id.desc()).limit(1))
    if row is None:
        return None
    office.transactions.note(entry, row["id"])
    return bytes(row["der"])


def _busy() -> Unavailable:
    return Unavailable(
        "The same request is being answered on another connection.",
        code="scep-transaction-busy",
        remedy="Send it again in a few seconds.",
        retry_after=5,
    )


async def certified(enrollment: Enrollment, endpoint: Endpoint, certificate_id: UUID) -> StoredCertificate | None:
    """A certificate of the endpoint's CA as it is recorded now."""
    ca = (await enrollment.gateway.snapshot()).ca(endpoint.ca)
    async with enrollment.database.read() as view:
        try:
            return await certificates.get_by_id(view, ca, certificate_id)
        except NotFound:
            return None


async def _is_good(office: Issuing, endpoint: Endpoint, issued: bytes) -> bool:
    stored = await pipeline.presented(office.enrollment, endpoint, issued)
    return stored is not None and stored.status == "valid"


async def _profile(enrollment: Enrollment, endpoint: Endpoint) -> CertificateProfile:
    return (await enrollment.gateway.snapshot()).ca(endpoint.ca).profile(endpoint.profile)


def _require_usages(profile: CertificateProfile, asked: Asked) -> None:
    """Refuse, where the endpoint wants that, a request for more than the profile gives. Otherwise the certificate says
    what the profile says, and the audit record of its issue what was asked for in vain."""
    if asked.options.usage_mismatch == "report":
        return
    usage, purposes = asked.request.extension(ext.KEY_USAGE), asked.request.extension(ext.EXTENDED_KEY_USAGE)
    beyond = sorted(ext.read_key_usage(usage.value) - set(profile.key_usage)) if usage is not None else []
    if purposes is not None and not profile.eku_from_request:
        beyond += [oid for oid in ext.read_extended_key_usage(purposes.value) if oid not in profile.purpose_oids]
    if beyond:
        raise Refused(
            f'The request asks for {", ".join(beyond)[:200]}, which profile "{profile.id}" does not give.',
            code="scep-usage-beyond-profile",
            remedy="Ask for what the profile gives, or leave key usages out of the request.",
        )
