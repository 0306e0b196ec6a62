"""What an EST endpoint can be told."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core.errors import InvalidInput
from intaglio.enrollment.est.attributes import csr_attributes
from intaglio.enrollment.values import EndpointOptions
from intaglio.x509.certificates import read_certificates

Authentication = Literal["password", "certificate", "both", "any"]


def _certificates(values: tuple[str, ...]) -> tuple[str, ...]:
    try:
        for value in values:
            read_certificates(value)
    except InvalidInput as error:
        raise ValueError(error.detail) from None
    return values


class EstOptions(EndpointOptions):
    """Who may enrol at an EST endpoint, and what clients are told."""

    authentication: Authentication = Field(
        default="any",
        description="What a client shows to enrol: a password (HTTP Basic), a certificate (TLS), both, or any of them.",
    )
    trusted: Annotated[tuple[str, ...], Field(max_length=20), AfterValidator(_certificates)] = Field(
        default=(),
        description="Certificates (PEM) of CAs, such as those of manufacturers, whose certificates clients may enrol "
        "with. Those of the endpoint's own CA and profile always count; its other profiles if it is listed.",
    )
    certificate_names: Literal["own", "any"] = Field(
        default="own",
        description="What a client that shows only a certificate may enrol for: the subject of that certificate and "
        "names in it, or anything.",
    )
    renewal_without_certificate: bool = Field(
        default=False, description="Whether simplereenroll takes a password instead of the certificate to renew."
    )
    revoke_renewed: bool = Field(
        default=False, description="Whether the old certificate is revoked (superseded) once it was renewed."
    )
    link_to_connection: Literal["off", "when-present", "required"] = Field(
        default="when-present",
        description="Whether a request must be bound to its TLS connection by its challengePassword (RFC 7030 section "
        "3.5).",
    )
    server_keys: bool = Field(default=False, description="Whether keys are made here on request (serverkeygen).")
    server_key_algorithm: str | None = Field(
        default=None, max_length=40, description="Algorithm of keys made here; null: that of the request's own key."
    )
    subject_template: str | None = Field(
        default=None, max_length=1000, description="Subject that clients are told to fill in (RFC 9908), RFC 4514."
    )
    san_template: tuple[str, ...] = Field(
        default=(),
        max_length=20,
        description="Types of alternative names that clients are told to ask for, such as dNSName, or dNSName=VALUE.",
    )
    request_key: str | None = Field(
        default=None, max_length=40, description="Key algorithm that clients are told to use; null: any."
    )
    request_attributes: tuple[str, ...] = Field(
        default=(), max_length=40, description="Further attributes (dotted OIDs) that clients are told to send."
    )

    @model_validator(mode="after")
    def _attributes_can_be_made(self) -> Self:
        try:
            KeyAlgorithm.parse(self.server_key_algorithm or KeyAlgorithm.ECDSA_P256)
            csr_attributes(self)
        except InvalidInput as error:
            raise ValueError(error.detail) from None
        return self
