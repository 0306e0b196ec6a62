"""Live settings of the enrolment protocols."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from intaglio.core.errors import InvalidInput
from intaglio.core.outgoing import networks_of
from intaglio.platform.live_settings import SettingsGroup


def _base(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if scheme not in ("http", "https") or not separator or not rest or set(rest) & set("?# \"<>"):
        raise ValueError("write a URL such as https://enroll.example.com")
    return text.rstrip("/")


def _networks(values: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(networks_of(values))
    except InvalidInput as error:
        raise ValueError(error.detail) from None


BaseUrl = Annotated[str, Field(max_length=300), AfterValidator(_base)]
Networks = Annotated[tuple[str, ...], Field(max_length=100), AfterValidator(_networks)]


class EnrollmentSettings(SettingsGroup):
    """How the endpoints of the enrolment protocols are reached."""

    group = "enrollment"

    base_url: BaseUrl | None = Field(
        default=None,
        description="Base of the HTTPS URLs of endpoints as clients see it; null: what they asked; the name of this "
        "server where nobody asked.",
    )
    plain_base_url: BaseUrl | None = Field(
        default=None, description="Base of the plain HTTP URLs of SCEP and CMP; null: that of CRLs and OCSP."
    )
    forwarded_certificates: bool = Field(
        default=False,
        description="Whether the trusted proxies end TLS and hand client certificates over in Client-Cert (RFC 9440); "
        "they must drop that header when a client sends it.",
    )
    trusted_proxies: Networks = Field(
        default=(),
        description="Networks of reverse proxies whose X-Forwarded-For, -Host and -Proto headers say who asks, and at "
        "which address.",
    )
    pages: bool = Field(
        default=True,
        description="Show who knows the name of a tenant its endpoints, with commands, at /urls/TENANT of the "
        "enrolment listener.",
    )
