"""What an access decision is made from, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

from intaglio.mtls.identities.values import CertifiedIdentity

Mode = Literal["off", "permissive", "enforce"]


class ReasonCode(StrEnum):
    """Why a connection or request is refused (or would be, were the ingress not permissive)."""

    IP_DENIED = "ip_denied"
    NO_CERTIFICATE = "no_certificate"
    SELF_SIGNED = "self_signed"
    UNKNOWN_CA = "unknown_ca"
    WRONG_ENVIRONMENT = "wrong_environment"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    REVOKED = "revoked"
    STATUS_UNAVAILABLE = "status_unavailable"
    BAD_PURPOSE = "bad_purpose"
    POLICY_DENIED = "policy_denied"
    WEAK_KEY = "weak_key"
    BAD_SIGNATURE = "bad_signature"


#: The caller is known, yet may not: HTTP 403. For every other reason he is not known: 401.
FORBIDDING = frozenset({ReasonCode.IP_DENIED, ReasonCode.POLICY_DENIED})


@dataclass(frozen=True, slots=True)
class IngressId:
    """Which ingress a decision was made for; ``name`` is ``{organization}~{ingress}``."""

    id: UUID
    name: str
    organization_id: UUID


NO_INGRESS = IngressId(UUID(int=0), "", UUID(int=0))


@dataclass(frozen=True, slots=True)
class Facts:
    """One connection or request as an enforcement point saw it.

    ``ingress`` is the id of the registered ingress; ``presented`` the client's certificates, leaf first (DER), for
    whose key TLS has proved possession; ``source_ip`` the address of the client as text. ``method``, ``host`` and
    ``path`` (without query) are empty for a bare handshake. ``at`` is the moment to decide for. ``verify_error`` is
    what the enforcement point itself found wrong with the certificate (an OpenSSL name such as ``CERT_HAS_EXPIRED``, or
    words); it can only turn a yes into a no.
    """

    ingress: UUID
    source_ip: str
    at: datetime
    presented: tuple[bytes, ...] = ()
    host: str = ""
    method: str = ""
    path: str = ""
    tls_version: str = ""
    cipher: str = ""
    verify_error: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """Outcome of one check: ``reason`` is None when it was passed."""

    name: str
    reason: ReasonCode | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What was presented, as far as it could be read. Claims, unless the decision has an identity.

    ``serial`` is unsigned big-endian; ``issuer`` and ``subject`` are RFC 4514 text; ``san`` are ``type:value`` texts;
    ``ca`` is the CA of ours that issued it, ``{organization}~{ca}``, empty when none did; ``claimed`` is whom it was
    made out to: the URI, else the subject.
    """

    fingerprint: bytes
    serial: bytes
    issuer: str
    subject: str
    san: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    ca: str = ""
    claimed: str = ""


@dataclass(frozen=True, slots=True)
class PolicyOutcome:
    """Which policy decided what: ``rules`` are the ids of the rules that determined it, none for the default deny."""

    policy: str
    version: int
    allowed: bool
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What an enforcement point has to do, and why.

    ``allowed`` is to be obeyed. ``reason`` says what is wrong and is also set when a permissive ingress lets the caller
    through; None when nothing is. ``ip_allowed`` (barrier one; None without an IP rule) and ``certificate_reason``
    (barrier two; None when the certificate is good) were found independently of each other. ``identity`` is set only
    for a certificate that passed every check, and is all that may be forwarded upstream.
    """

    allowed: bool
    mode: Mode
    reason: ReasonCode | None
    detail: str
    ip_allowed: bool | None
    certificate_reason: ReasonCode | None
    identity: CertifiedIdentity | None = None
    certificate: CertificateFacts | None = None
    policy: PolicyOutcome | None = None
    checks: tuple[Check, ...] = field(default=(), repr=False)
    chain: tuple[bytes, ...] = field(default=(), repr=False)
    ingress: IngressId = NO_INGRESS

    @property
    def enforced(self) -> bool:
        """Whether the ingress enforces what is decided."""
        return self.mode == "enforce"

    @property
    def status(self) -> int:
        """The HTTP status that tells it: 200, 401 (nobody we know) or 403 (somebody who may not)."""
        if self.allowed:
            return 200
        return 403 if self.reason in FORBIDDING else 401
