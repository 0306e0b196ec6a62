"""What goes into the engine and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.profiles.durations import Duration
from intaglio.profiles.model import Channel, Mode
from intaglio.x509.certificates import assemble_certificate
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import Name
from intaglio.x509.requests import RequestedExtension

_END_OF_TIME: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Issuer:
    """The CA that will sign, as far as the certificate's contents depend on it.

    ``key_id`` is copied from the CA certificate's subject key identifier, however that was made. ``path_budget`` is how
    many further CA certificates may follow below this CA (None: any number, 0: only end entities). Empty ``crl_urls``
    mean that the CA publishes no CRL.
    """

    name: str
    subject_der: bytes
    key_id: bytes
    algorithm: KeyAlgorithm
    not_before: datetime
    not_after: datetime
    path_budget: int | None
    ocsp_enabled: bool = False
    ocsp_urls: tuple[str, ...] = ()
    issuer_urls: tuple[str, ...] = ()
    crl_urls: tuple[str, ...] = ()
    delta_crl_urls: tuple[str, ...] = ()

    @classmethod
    def of_root(cls, name: str, subject: Name, key_id: bytes, algorithm: KeyAlgorithm, now: datetime) -> Issuer:
        """The issuer of a root certificate: itself, from ``now`` on and without an end."""
        return cls(name, subject.der, key_id, algorithm, now.replace(microsecond=0), _END_OF_TIME, None)


@dataclass(frozen=True, slots=True)
class RequestedValidity:
    """A validity asked for: aware dates, or a duration from ``not_before`` (from now when that is silent)."""

    not_before: datetime | None = None
    not_after: datetime | None = None
    duration: Duration | None = None

    def __post_init__(self) -> None:
        if any(moment is not None and moment.tzinfo is None for moment in (self.not_before, self.not_after)):
            raise ValueError("the dates of a validity need a time zone")


@dataclass(frozen=True, slots=True)
class IssuanceInput:
    """One request, parsed, its proof of possession checked, its requester authenticated and authorized.

    - ``extensions`` come from the certificate request, ``explicit_extensions`` and ``key_usage`` from a caller whose
      role may ask for them; explicit ones win.
    - ``stated`` are extensions that the platform itself has made; no caller gets to say anything about them.
    - ``subject_variables`` are (name, value) pairs in order of arrival.
    - ``requester_upn`` and ``requester_sid`` say which user is asking. Once one of them is known, user principal names
      and security identifiers in the request must be that user's.
    - ``on_unlisted`` overrides what the profile does with extensions it does not let through.
    - ``shorten_only``: the requested validity may stay within the profile's default, not exceed it.
    - ``clamp_validity``: a requested end that is too late is moved to the latest possible one instead of refused.
    - ``private_key_usage_percentage`` (1 to 100) adds a private key usage period of that share of the validity.
    """

    subject: Name
    spki: bytes
    key_algorithm: KeyAlgorithm
    channel: Channel
    mode: Mode = "csr"
    san: GeneralNames | None = None
    extensions: tuple[RequestedExtension, ...] = ()
    explicit_extensions: tuple[RequestedExtension, ...] = ()
    stated: tuple[RequestedExtension, ...] = ()
    key_usage: tuple[str, ...] | None = None
    validity: RequestedValidity | None = None
    subject_variables: tuple[tuple[str, str], ...] = ()
    requester_upn: str | None = None
    requester_sid: str | None = None
    on_unlisted: Literal["drop", "reject"] | None = None
    shorten_only: bool = False
    clamp_validity: bool = False
    private_key_usage_percentage: int | None = None


#: Only `CompiledProfile.prepare` passes it: a PreparedCertificate exists only once the lint has passed.
LINTED: Final = object()


class PreparedCertificate:
    """A certificate that passed every step including the lint and only misses its signature."""

    __slots__ = ("not_after", "not_before", "san", "serial", "signature_identifier", "subject", "tbs", "warnings")

    def __init__(
        self,
        seal: object,
        *,
        tbs: bytes,
        serial: bytes,
        not_before: datetime,
        not_after: datetime,
        subject: Name,
        san: GeneralNames | None,
        warnings: tuple[str, ...],
        signature_identifier: bytes,
    ) -> None:
        if seal is not LINTED:
            raise TypeError("only the profile engine makes a PreparedCertificate")
        self.tbs = tbs
        self.serial = serial
        self.not_before = not_before
        self.not_after = not_after
        self.subject = subject
        self.san = san
        self.warnings = warnings
        self.signature_identifier = signature_identifier

    def assemble(self, signature: bytes) -> bytes:
        """The DER of the certificate with its signature over ``tbs``."""
        return assemble_certificate(self.tbs, self.signature_identifier, signature)
