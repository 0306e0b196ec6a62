"""Who comes to an EST endpoint: with a password, a certificate, or both. Source: RFC 7030 section 3.3."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from intaglio.authority.certificates import StoredCertificate
from intaglio.core import clock
from intaglio.core.clock import rfc3339
from intaglio.core.errors import IntaglioError, InvalidInput, Refused, Unauthenticated
from intaglio.enrollment import credentials, peers, pipeline, trust, urls
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.credentials import StoredCredential
from intaglio.enrollment.values import Applicant, Endpoint
from intaglio.x509.certificates import CertificateInfo, read_certificates
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import Name
from intaglio.x509.requests import CertificateRequest

_LONGEST_AUTHORIZATION = 2048
#: Extended key usages of clients: clientAuth, and any.
_CLIENTS = frozenset({"1.3.6.1.5.5.7.3.2", "2.5.29.37.0"})
#: A first request without credentials is how Basic begins, and no failure of anybody.
FIRST_CONTACT = "authentication-required"


@dataclass
class Call:
    """What a request says of whoever makes it. ``chain`` was presented in TLS, which proves the key of ``chain[0]`` and
    nothing else; ``bindings`` gives the values that name this TLS connection; ``applicant`` is set once he is known."""

    source: str
    chain: tuple[bytes, ...] = field(repr=False)
    authorization: str = field(repr=False)
    bindings: Callable[[], tuple[bytes, ...]] = field(default=tuple, repr=False)
    applicant: Applicant | None = None

    @classmethod
    async def of(cls, enrollment: Enrollment, scope: Mapping[str, Any]) -> Call:
        """From an ASGI scope."""
        source = await urls.source(enrollment, scope)
        tls: Mapping[str, Any] = scope.get("extensions", {}).get("tls") or {}
        headers = [value for name, value in scope.get("headers", ()) if name == b"authorization"]
        return cls(
            source,
            peers.presented(enrollment.endpoints.settings, scope),
            headers[0].decode("latin-1") if headers else "",
            tls.get("channel_bindings", tuple),
        )


@dataclass(frozen=True)
class Certified:
    """A certificate that counts at the endpoint. ``stored`` is its record where a CA of the platform issued it; ``own``
    whether that is the CA of the endpoint."""

    info: CertificateInfo
    stored: StoredCertificate | None
    own: bool


@dataclass(frozen=True)
class Known:
    """Whoever may ask, and by what he is known."""

    applicant: Applicant
    credential: StoredCredential | None
    certified: Certified | None

    @property
    def is_holder(self) -> bool:
        """Whether the certificate that he renews is his: he showed it, or his password is for nobody else's name."""
        return self.certified is not None or (self.credential is not None and self.credential.bound.subject is not None)

    def require_names(self, endpoint: Endpoint, request: CertificateRequest) -> None:
        """Raise Refused (``name-not-allowed``) for names that he may not ask for."""
        if self.credential is not None:
            self.credential.bound.require(request.subject, request.san, request.extensions)
        elif self.certified is not None and endpoint.options.certificate_names == "own":
            _require_own_names(self.certified.info, request.subject, request.san)
            pipeline.require_own_identifier(self.certified.info, request.extensions)


async def identify(enrollment: Enrollment, endpoint: Endpoint, call: Call) -> Known:
    """Who is asking for a new certificate.

    Raises Unauthenticated (``authentication-required`` for somebody who has shown nothing yet, else what is wrong with
    what he has shown), RateLimited.
    """
    wanted = endpoint.options.authentication
    if wanted == "certificate":
        return _known(call, None, await certified(enrollment, endpoint, call))
    if wanted == "any" and not call.authorization and call.chain:
        try:
            return _known(call, None, await certified(enrollment, endpoint, call))
        except Unauthenticated as error:
            if error.code != trust.UNTRUSTED:
                raise
            # A client that shows whatever certificate it has may still know a password.
            raise _first_contact(error.detail) from None
    credential = await _password(enrollment, endpoint, call)
    shown = await certified(enrollment, endpoint, call) if wanted == "both" else None
    return _known(call, credential, shown)


async def identify_for_renewal(enrollment: Enrollment, endpoint: Endpoint, call: Call) -> Known:
    """Who is asking for a certificate to be renewed: its holder, by that certificate; where the endpoint says so, by
    password. Raises like :func:`identify`, and Unauthenticated (``certificate-other-ca``)."""
    options = endpoint.options
    if options.renewal_without_certificate and call.authorization and options.authentication != "certificate":
        return _known(call, await _password(enrollment, endpoint, call), None)
    shown = await certified(enrollment, endpoint, call, renewing=True)
    if not shown.own:
        raise Unauthenticated(
            "The certificate is of another CA than the one to renew.",
            code="certificate-other-ca",
            remedy="Come with the certificate that is to be renewed, or enrol with simpleenroll.",
        )
    credential = await _password(enrollment, endpoint, call) if options.authentication == "both" else None
    return _known(call, credential, shown)


async def certified(
    enrollment: Enrollment, endpoint: Endpoint, call: Call, *, renewing: bool = False
) -> Certified:
    """The client certificate, once it counts: one of this CA and profile, else one of a CA that the endpoint trusts.

    What the CA has certified for another purpose, a web server say, says nothing about who may enrol here, unless the
    CA is trusted by name. ``renewing``: any certificate of the CA, which then decides. Raises Unauthenticated.
    """
    if not call.chain:
        raise Unauthenticated(
            "A TLS client certificate is needed.",
            code="client-certificate-required",
            remedy="Connect with a certificate that the endpoint trusts.",
        )
    try:
        info = enrollment.recorded.read(call.chain[0])
        stored = await pipeline.known(enrollment, info)
    except InvalidInput:
        raise trust.untrusted("it cannot be read") from None
    own = stored is not None and stored.ca_id == endpoint.ca_id
    if not own or not (renewing or stored is None or stored.profile == endpoint.profile):
        anchors = [each.der for text in endpoint.options.trusted for each in read_certificates(text)]
        if own and not anchors:
            raise trust.untrusted("it is of another profile, and the endpoint trusts no CA for all of them")
        trust.verify(call.chain, anchors, clock.now())
        _require_client(info)
    _require_current(info, stored)
    return Certified(info, stored, own)


async def _password(enrollment: Enrollment, endpoint: Endpoint, call: Call) -> StoredCredential:
    if not call.authorization:
        raise _first_contact("This endpoint wants user name and password.")
    user, given = _basic(call.authorization)
    return await credentials.find_password(enrollment, endpoint, user, given, call.source)


def _basic(header: str) -> tuple[str, str]:
    """User and password of an Authorization header. Source: RFC 7617 section 2."""
    scheme, _, value = header.partition(" ")
    try:
        if scheme.lower() != "basic" or len(value) > _LONGEST_AUTHORIZATION:
            raise ValueError
        user, colon, given = base64.b64decode(value.strip(), validate=True).decode().partition(":")
        if not colon:
            raise ValueError
    except (binascii.Error, ValueError):
        raise Unauthenticated(
            "The Authorization header is not Basic.",
            code="authorization-unreadable",
            remedy="Send user name and password as RFC 7617 says.",
        ) from None
    return user, given


def _known(call: Call, credential: StoredCredential | None, shown: Certified | None) -> Known:
    if credential is not None:
        call.applicant = Applicant(credential.name, "password", call.source)
    else:
        assert shown is not None
        name = shown.info.subject.rfc4514 or "; ".join(shown.info.san.text if shown.info.san else ())
        call.applicant = Applicant(name[:500], "certificate", call.source)
    return Known(call.applicant, credential, shown)


def _require_client(info: CertificateInfo) -> None:
    """Raise Unauthenticated for a certificate that is for something else than clients. Source: RFC 5280 section
    4.2.1.12."""
    if info.eku is not None and not _CLIENTS.intersection(info.eku):
        raise trust.untrusted("it is not for TLS clients (clientAuth)")


def _require_current(info: CertificateInfo, stored: StoredCertificate | None) -> None:
    now = clock.now()
    if stored is not None and stored.status != "valid":
        raise Unauthenticated(
            f"The client certificate is {stored.status}.",
            code="certificate-revoked" if stored.status == "revoked" else "certificate-held",
            remedy="Enrol anew with a password, or ask an administrator.",
        )
    if not info.not_before <= now <= info.not_after:
        raise Unauthenticated(
            f"The client certificate is valid from {rfc3339(info.not_before)} until {rfc3339(info.not_after)} only.",
            code="client-certificate-expired",
            remedy="Enrol anew with a password, or ask an administrator.",
        )


def _require_own_names(info: CertificateInfo, subject: Name, san: GeneralNames | None) -> None:
    own = {entry.der for entry in info.san.entries} if info.san is not None else set()
    foreign = [entry.text for entry in san.entries if entry.der not in own] if san is not None else []
    if subject.key != info.subject.key or foreign:
        what = f'"{foreign[0][:200]}"' if foreign else f'the subject "{subject.rfc4514[:200]}"'
        raise Refused(
            f"A client that comes with a certificate may not ask for {what}, which is not in it.",
            code="name-not-allowed",
            remedy="Ask for the names of the certificate; or have the endpoint allow any (certificate_names).",
        )


def _first_contact(why: str) -> Unauthenticated:
    return Unauthenticated(why, code=FIRST_CONTACT, remedy="Repeat the request with user name and password.")


def is_first_contact(error: IntaglioError) -> bool:
    """Whether nobody has failed: Basic begins with a request without credentials."""
    return error.code == FIRST_CONTACT
