"""How SCEP is served at one endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field, model_validator

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core.errors import StateConflict
from intaglio.enrollment.values import EndpointOptions
from intaglio.profiles.model import CertificateProfile
from intaglio.x509.cms.identifiers import AES_CBC, SHA_2, CipherName, DigestName

if TYPE_CHECKING:
    from intaglio.authority.directory import CaView

RaKeyAlgorithm = Literal[KeyAlgorithm.RSA_2048, KeyAlgorithm.RSA_3072, KeyAlgorithm.RSA_4096]
Legacy = Literal["3des", "des", "sha1"]
_LONGEST_GRACE: Final = 3650
_USAGES: Final = ("digitalSignature", "keyEncipherment")
_LEGACY_CIPHERS: Final[Mapping[str, CipherName]] = {"3des": "3des-cbc", "des": "des-cbc"}


class RaOptions(EndpointOptions):
    """The registration authority: the key that messages are encrypted for and answers are signed with.

    Endpoints of one CA that agree in all of this share their registration authority.
    """

    key_algorithm: RaKeyAlgorithm = Field(
        default=KeyAlgorithm.RSA_2048, description="RSA whatever the CA has: SCEP clients encrypt for RSA keys only."
    )
    provider: str = Field(
        default="software", max_length=120, description="Where keys are made: software, pkcs11:TOKEN."
    )
    profile: str | None = Field(
        default=None,
        max_length=100,
        description="Profile of its certificates, among those of the CA (digitalSignature, keyEncipherment); none: the "
        "platform's own.",
    )
    separate: bool = Field(
        default=False, description="Two keys: one to sign with, one that messages are encrypted for."
    )
    lifetime_days: int = Field(
        default=365,
        ge=7,
        le=3650,
        description="Validity of its certificates; renewed after two thirds. The old key decrypts until its end.",
    )

    def fitting_profile(self, ca: CaView, usages: Sequence[str] = _USAGES) -> CertificateProfile | None:
        """The profile of its certificates at a CA; None: the platform's own.

        Raises NotFound, StateConflict (``scep-ra-profile-unfit``: it lacks some of the key usages).
        """
        if self.profile is None:
            return None
        found = ca.profile(self.profile)
        missing = [usage for usage in usages if usage not in found.key_usage]
        if missing:
            raise StateConflict(
                f'Certificates of profile "{found.id}" lack the key usage {" and ".join(missing)}, which a '
                "registration authority needs.",
                code="scep-ra-profile-unfit",
                remedy="Use a profile with digitalSignature and keyEncipherment, or leave it to the platform.",
                target="options/ra/profile",
            )
        return found


class ScepOptions(EndpointOptions):
    """Options of a SCEP endpoint."""

    ra: RaOptions = RaOptions()

    empty_challenge: bool = Field(
        default=False,
        description="Insecure: whoever reaches the endpoint gets a certificate without a challenge password. Restrict "
        "the networks, or approve by hand.",
    )
    relayed_requests: bool = Field(
        default=False,
        description="A message may be signed with another key than that of its request: connectors and proxies that "
        "pass on requests made elsewhere (Google Cloud Certificate Connector). The challenge decides.",
    )
    renewal: bool = Field(
        default=True, description="A certificate of this CA and profile may ask for its successor, without challenge."
    )
    renewal_grace_days: int = Field(
        default=0,
        ge=0,
        le=_LONGEST_GRACE,
        description="Days after its end in which a certificate can be renewed still.",
    )
    renewal_window_days: int | None = Field(
        default=None,
        ge=1,
        le=_LONGEST_GRACE,
        description="Days before its end from which on a certificate can be renewed; none: at any time.",
    )
    revoke_on_renewal: bool = Field(
        default=False, description="Revoke the old certificate (superseded) once the new one is issued."
    )
    usage_mismatch: Literal["report", "refuse"] = Field(
        default="report",
        description="A request for key usages or purposes beyond the profile: issue what the profile gives and say so "
        "in the audit trail, or refuse.",
    )
    legacy: Annotated[tuple[Legacy, ...], Field(max_length=3)] = Field(
        default=(),
        description="Old algorithms to accept beside AES and SHA-2: 3des, sha1, and des, which hides nothing from "
        "whoever listens (micromdm's scepclient uses it). MD5 never.",
    )
    clock_tolerance_minutes: int | None = Field(
        default=None,
        ge=1,
        le=527_040,
        description="How far the signing time of a message may be off; none: not looked at, for devices without clock.",
    )
    get_certificates: bool = Field(default=True, description="Answer GetCert with certificates of the CA.")
    get_crls: bool = Field(default=True, description="Answer GetCRL with CRLs of the CA.")

    @model_validator(mode="after")
    def _consistent(self) -> ScepOptions:
        if len(set(self.legacy)) != len(self.legacy):
            raise ValueError("an old algorithm is listed twice")
        return self

    def require_fit(self, ca: CaView) -> None:
        self.ra.fitting_profile(ca)

    @property
    def ciphers(self) -> frozenset[CipherName]:
        """Ciphers that messages may be encrypted with."""
        return AES_CBC | {_LEGACY_CIPHERS[each] for each in self.legacy if each in _LEGACY_CIPHERS}

    @property
    def digests(self) -> frozenset[DigestName]:
        """Digests that messages may be signed with."""
        return SHA_2 | {"sha1"} if "sha1" in self.legacy else SHA_2

    @property
    def clock_tolerance(self) -> timedelta | None:
        minutes = self.clock_tolerance_minutes
        return None if minutes is None else timedelta(minutes=minutes)
