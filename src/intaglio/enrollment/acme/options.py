"""How ACME is served at one endpoint."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, HttpUrl, UrlConstraints, model_validator

from intaglio.core.errors import InvalidInput
from intaglio.core.outgoing import networks_of
from intaglio.enrollment.acme.validation.options import ValidationOptions
from intaglio.enrollment.values import EndpointOptions
from intaglio.profiles.durations import Duration, DurationField
from intaglio.x509.host_names import check_dns_name

ChallengeType = Literal["http-01", "dns-01", "tls-alpn-01"]

_FRACTION = re.compile(r"[.,]\d+(?=[sS]$)")


def _without_fraction(value: Any) -> Any:
    # PnDTnHnMn.nS is a spelling that configurations use; what is below a second makes no difference here.
    return _FRACTION.sub("", value) if isinstance(value, str) else value


def _domain_pattern(text: str) -> str:
    name = text.strip().lower().removeprefix("*.")
    try:
        checked = check_dns_name(name) if "." in name or name.isalnum() else ""
    except InvalidInput as error:
        raise ValueError(f"{error.detail} {error.remedy}") from None
    if not checked:
        raise ValueError(f'"{text[:80]}" is not a domain; write example.com or *.example.com')
    return f"*.{checked}" if text.strip().startswith("*.") else checked


def _networks(texts: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(networks_of(texts))
    except InvalidInput as error:
        raise ValueError(f"{error.detail} {error.remedy}") from None


Period = Annotated[DurationField, BeforeValidator(_without_fraction)]
Domains = Annotated[tuple[Annotated[str, AfterValidator(_domain_pattern)], ...], Field(max_length=1000)]
Networks = Annotated[tuple[str, ...], AfterValidator(_networks)]
WebUrl = Annotated[HttpUrl, UrlConstraints(max_length=1000)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Rates(EndpointOptions):
    """How often something may happen; what is not given is not limited."""

    accounts_per_address: Count | None = Field(
        default=100, description="New accounts from one address (of IPv6: one /64) in three hours."
    )
    orders_per_account: Count | None = Field(default=3000, description="New orders of one account in three hours.")
    pending_authorizations: Count | None = Field(default=300, description="Authorizations of one account that wait.")
    failures_per_name: Count | None = Field(
        default=20, description="Failed validations of one name by one account in an hour."
    )
    certificates_per_domain: Count | None = Field(
        default=None, description="New orders below one registered domain (its last two labels) in a week."
    )


class AcmeOptions(EndpointOptions):
    """Options of an ACME endpoint. Times are ISO 8601 durations."""

    challenges: Annotated[tuple[ChallengeType, ...], Field(min_length=1)] = Field(
        default=("http-01", "dns-01", "tls-alpn-01"), description="Challenges by which control over a name is proven."
    )
    validation: ValidationOptions = ValidationOptions()

    wildcards: bool = Field(default=True, description="Certify *.example.com (proven by dns-01 alone).")
    ip_addresses: bool = Field(default=True, description="Certify IP addresses (RFC 8738).")
    allowed_domains: Domains = Field(
        default=(),
        description="Names that may be certified: example.com with all below it, *.example.com only those below it; "
        "none: every name.",
    )
    denied_domains: Domains = Field(default=(), description="Names that are never certified; stronger than allowed.")
    allowed_networks: Networks = Field(default=(), description="IP addresses that may be certified; none: every one.")
    denied_networks: Networks = Field(default=(), description="IP addresses that are never certified.")
    identifiers_per_order: int = Field(default=100, ge=1, le=100, description="Names in one order.")
    pre_authorization: bool = Field(default=True, description="Names may be authorized before they are ordered.")

    order_lifetime: Period = Field(
        default=Duration.parse("P7D"), description="After this time an order that was not finalized is invalid."
    )
    authorization_lifetime: Period = Field(
        default=Duration.parse("P30D"), description="For how long a proof of control counts, for further orders too."
    )
    kept_after_expiry: Period = Field(
        default=Duration.parse("PT1H"), description="Orders and authorizations are deleted so long after they expired."
    )
    requested_dates: bool = Field(
        default=True,
        description="notBefore and notAfter of an order may shorten the validity; otherwise they are refused.",
    )
    subject: Literal["first-name", "empty"] = Field(
        default="first-name",
        description="A request without subject: its first name becomes the common name, or the subject stays empty.",
    )
    chain_with_root: bool = Field(default=False, description="The default chain ends with the root certificate.")
    profiles: Annotated[tuple[str, ...], Field(max_length=50)] = Field(
        default=(), description="Further profiles that an order may choose."
    )

    terms_of_service: WebUrl | None = Field(
        default=None, description="Terms that accounts agree to; when they change, give them another address."
    )
    website: WebUrl | None = Field(default=None, description="Shown in the directory.")
    external_account: Literal["off", "optional", "required"] = Field(
        default="off", description="Whether an account is bound to a credential made beforehand (eab)."
    )
    rates: Rates = Rates()

    @model_validator(mode="after")
    def _consistent(self) -> AcmeOptions:
        if len(set(self.challenges)) != len(self.challenges):
            raise ValueError("a challenge is listed twice")
        return self

    @property
    def caa_identities(self) -> tuple[str, ...]:
        return self.validation.caa_identities


def later(moment: datetime, period: Duration, *, at_most: timedelta = timedelta(days=3650)) -> datetime:
    """``moment`` plus ``period``, within bounds that a database can hold."""
    try:
        return min(period.after(moment), moment + at_most)
    except InvalidInput:
        return moment + at_most
