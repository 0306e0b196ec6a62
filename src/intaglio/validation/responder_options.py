"""How a status authority answers: what an operator can choose beside its status profile.

Stored as JSON with the authority (``status_authority.responder``) and checked when it is written.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from intaglio.core.errors import IntaglioError
from intaglio.x509.certificates import read_certificates

#: Certificates of CAs whose holders may ask, when requests have to be signed.
MAX_REQUESTOR_CAS = 20


class ResponderOptions(BaseModel):
    """Every member has the default of the standards and of the clients in the field."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    http_error: bool = Field(
        default=False,
        description="Answer invalid requests with HTTP 400 and those that cannot be processed with 404, instead of 200 "
        "with an OCSP error in the body.",
    )
    retry_unknown: bool = Field(
        default=False,
        description="Hold a request about an unknown certificate for up to 17 seconds and look again every half "
        "second; only with status profiles that call unknown certificates revoked.",
    )
    responder_id: Literal["key", "name"] = Field(
        default="key", description="Whether answers name their signer by the hash of its key or by its subject."
    )
    digest: Literal["sha256", "sha384", "sha512"] | None = Field(
        default=None, description="Digest of the signature; without it the one that belongs to the key."
    )
    pss: bool = Field(default=False, description="Sign with RSASSA-PSS; RSA keys only.")
    signed_requests: bool = Field(default=False, description="Answer only requests signed under requestor_cas.")
    requestor_cas: Annotated[str, Field(max_length=200_000)] = Field(
        default="", description="CA certificates (PEM) of those who may ask when signed_requests is set."
    )
    shared_signer: Annotated[str, Field(max_length=100)] = Field(
        default="", description="Label of a shared signer; it signs where the authority has no signer of its own."
    )

    @field_validator("requestor_cas")
    @classmethod
    def _are_ca_certificates(cls, value: str) -> str:
        if not value.strip():
            return ""
        try:
            found = read_certificates(value)
        except IntaglioError as error:
            raise ValueError(error.detail) from None
        if not 0 < len(found) <= MAX_REQUESTOR_CAS or not all(certificate.is_ca for certificate in found):
            raise ValueError(f"1 to {MAX_REQUESTOR_CAS} CA certificates are expected")
        return value

    @model_validator(mode="after")
    def _trusts_somebody(self) -> ResponderOptions:
        if self.signed_requests and not self.requestor_cas:
            raise ValueError("signed_requests needs requestor_cas")
        return self
