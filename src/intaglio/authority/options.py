"""What can be set per CA besides its profiles: CRL schedule, partitions, key-size policy."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from intaglio.profiles import vocabulary
from intaglio.x509.host_names import is_dns_name


def _purpose(text: str) -> str:
    return vocabulary.purpose_name(vocabulary.purpose_oid(text))


class KeySizePolicy(BaseModel):
    """Smallest subject keys a CA signs; ``log`` records smaller ones, ``block`` refuses them. Sizes in bits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Literal["off", "log", "block"] = "off"
    rsa: int = Field(default=2048, ge=1024, le=16384)
    ecc: int = Field(default=256, ge=160, le=1024)


class CaConstraints(BaseModel):
    """What a CA certificate limits itself to, so that trusting it does not put everything else at risk.

    Below it there are DNS names, URIs and e-mail addresses of these hosts only (``.example`` stands for all hosts below
    it), no IP addresses, and no other purposes than these. Without ``permitted_email`` all e-mail addresses count: CAs
    made before there was that limit. They count from the next certificate of the CA on.
    Source: RFC 5280 section 4.2.1.10.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    permitted_dns: tuple[Annotated[str, Field(max_length=253)], ...] = Field(min_length=1, max_length=64)
    permitted_uri_hosts: tuple[Annotated[str, Field(max_length=253)], ...] = Field(min_length=1, max_length=64)
    permitted_email: tuple[Annotated[str, Field(max_length=253)], ...] = Field(default=(), max_length=64)
    purposes: tuple[Annotated[str, AfterValidator(_purpose)], ...] = Field(default=(), max_length=16)

    @field_validator("permitted_dns", "permitted_uri_hosts", "permitted_email")
    @classmethod
    def _host_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [name for name in names if not is_dns_name(name.removeprefix(".")) or name.startswith("*")]:
            raise ValueError(f"{wrong[0][:80]} is not a host name")
        return names


class CaOptions(BaseModel):
    """Options of one CA.

    ``crl_interval`` is the time between full CRLs (None: no CRLs, and then no CRL distribution points in new
    certificates); ``crl_validity`` is nextUpdate minus thisUpdate and must leave an overlap beyond the interval, so
    that a relying party never sees an expired CRL because of one late issue. ``delta_crl_interval`` switches delta CRLs
    on (RFC 5280 section 5.2.4); ``crl_partitions`` spreads new certificates over that many partitioned CRLs
    (section 5.2.5). ``crl_on_revoke`` publishes at once after every revocation. All times in hours or minutes as named.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    crl_interval_hours: float | None = Field(default=24, gt=0, le=24 * 366)
    crl_validity_hours: float = Field(default=72, gt=0, le=24 * 732)
    crl_on_revoke: bool = False
    delta_crl_interval_minutes: float | None = Field(default=None, gt=0, le=60 * 24 * 31)
    crl_partitions: int = Field(default=0, ge=0, le=1024)
    ocsp_validity_minutes: float = Field(default=60, ge=1, le=60 * 24 * 14)
    ocsp_key_provider: str | None = Field(
        default=None,
        max_length=80,
        description="Where the keys of its OCSP signers are made: software, pkcs11:TOKEN; null: where its own key is.",
    )
    keep_expired_on_crl: bool = False
    minimum_keysize: KeySizePolicy = KeySizePolicy()
    allow_issuing_below: bool = Field(
        default=False, description="Permit issuing CAs below this issuing CA when the path length leaves room."
    )
    constraints: CaConstraints | None = None

    @model_validator(mode="after")
    def _overlap(self) -> CaOptions:
        if self.crl_interval_hours is not None and self.crl_validity_hours <= self.crl_interval_hours:
            raise ValueError("crl_validity_hours must be longer than crl_interval_hours, so that CRLs overlap")
        return self

    @property
    def crl_interval(self) -> timedelta | None:
        return None if self.crl_interval_hours is None else timedelta(hours=self.crl_interval_hours)

    @property
    def crl_validity(self) -> timedelta:
        return timedelta(hours=self.crl_validity_hours)

    @property
    def delta_interval(self) -> timedelta | None:
        return None if self.delta_crl_interval_minutes is None else timedelta(minutes=self.delta_crl_interval_minutes)

    @property
    def ocsp_validity(self) -> timedelta:
        return timedelta(minutes=self.ocsp_validity_minutes)
