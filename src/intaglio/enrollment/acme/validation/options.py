"""How challenges are validated at one endpoint."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, HttpUrl, UrlConstraints

from intaglio.core.errors import InvalidInput
from intaglio.transport.resolver import nameservers_of

Port = Annotated[int, Field(ge=1, le=65535)]
PerspectiveUrl = Annotated[HttpUrl, UrlConstraints(allowed_schemes=["https"], max_length=2000)]


def _nameservers(texts: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return nameservers_of(texts)
    except InvalidInput as error:
        raise ValueError(f"{error.detail} {error.remedy}") from None


class ValidationOptions(BaseModel):
    """Settings of the validation of challenges; times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    http_redirects: bool = Field(
        default=False, description="http-01: follow redirects, at most 50; otherwise a redirect fails the challenge."
    )
    http_retry_interval: float = Field(
        default=0, ge=0, le=60, description="http-01: wait after an answer 503; 0 is 1 s at first, then 2 s."
    )
    http_retry_count: int = Field(default=4, ge=0, le=100, description="http-01: tries after an answer 503.")
    http_timeout: float = Field(default=10, ge=0.1, le=60, description="http-01: patience with one request.")
    http_port: Port = Field(default=80, description="http-01: port; 80 is the standard's.")
    tls_port: Port = Field(default=443, description="tls-alpn-01: port; 443 is the standard's.")
    tls_timeout: float = Field(default=10, ge=0.1, le=60, description="tls-alpn-01: patience with a handshake.")
    dns_timeout: float = Field(default=10, ge=0.1, le=60, description="Patience with one lookup.")
    nameservers: Annotated[tuple[str, ...], AfterValidator(_nameservers)] = Field(
        default=(),
        description="DNS servers to ask (192.0.2.53:53, [2001:db8::53]:53, tls://192.0.2.53#dns.example); "
        "none: those of the host.",
    )
    require_dnssec: bool = Field(
        default=False, description="Answers of the DNS count only when the server vouches for them (AD)."
    )
    caa_identities: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,253}$")], ...] = Field(
        default=(), max_length=10, description="Our names in CAA records; none: CAA is not checked."
    )
    perspectives: tuple[PerspectiveUrl, ...] = Field(
        default=(), max_length=10, description="Services elsewhere that validate, too, and may object."
    )
    perspectives_needed: int = Field(
        default=0, ge=0, le=10, description="How many of them must agree; 0: all of them."
    )
    total_timeout: float = Field(default=120, ge=1, le=600, description="Patience with the whole of a validation.")
