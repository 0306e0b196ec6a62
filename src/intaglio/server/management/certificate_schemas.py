"""What is asked of certificates, and what is told about them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Certificate(BaseModel):
    """A certificate as recorded. ``state`` is valid, held, revoked or expired."""

    id: UUID
    ca: str
    serial_number: str
    subject: str
    names: list[str]
    profile: str
    state: str
    not_before: datetime
    not_after: datetime
    issued_at: datetime
    revoked_at: datetime | None
    reason: str | None
    invalidity_date: datetime | None
    requester: str
    channel: str
    previous_id: UUID | None
    properties: dict[str, Any]


class CertificateWithPem(Certificate):
    certificate: str = Field(description="PEM.")
    chain: list[str] = Field(description="PEM, issuer first.")


class SubjectName(_Body):
    """A subject alternative name: dNSName, iPAddress, rfc822Name, uniformResourceIdentifier, userPrincipalName ..."""

    type: str = Field(max_length=100)
    value: str = Field(max_length=4096)


class SubjectVariable(_Body):
    """A value for the subject: an attribute type, or the name of a variable of the profile."""

    name: str = Field(min_length=1, max_length=200)
    value: str = Field(max_length=4096)


class Extension(_Body):
    """An extension to ask for: base64 DER of its value, or for the extended key usage a dotted OID."""

    oid: str = Field(max_length=255)
    value: str = Field(max_length=65536)
    critical: bool = False


class Pkcs12(_Body):
    """The key is made by the server and handed out once, under ``password``."""

    password: SecretStr = Field(min_length=1, max_length=1024)
    key_algorithm: str | None = None
    compatibility: Literal["modern", "legacy"] = "modern"


class WantedCertificate(_Body):
    """Either ``csr`` or ``pkcs12``. ``subject`` and ``names`` win over those of the CSR.

    ``validity`` is a duration (P90D), an end (2027-01-02T08:33:49Z) or start/end.
    """

    profile: str = Field(min_length=1, max_length=200)
    csr: str | None = Field(default=None, max_length=131072, description="PEM, or base64 of DER.")
    pkcs12: Pkcs12 | None = None
    subject: str | None = Field(default=None, max_length=4096)
    variables: list[SubjectVariable] = Field(
        default=[], max_length=100, description="What the profile builds the subject from when there is none."
    )
    names: list[SubjectName] = Field(default=[], max_length=100)
    names_of_csr: bool | None = Field(
        default=None,
        description="true adds the names of the CSR, false leaves them out, null takes them without names.",
    )
    validity: str | None = Field(default=None, max_length=100)
    key_usage: list[str] | None = None
    extensions: list[Extension] = Field(default=[], max_length=50)
    properties: dict[str, str] = {}


class IssuedCertificate(BaseModel):
    """A certificate just issued. ``pkcs12`` is base64, shown this once."""

    ca: str
    serial_number: str
    subject: str
    profile: str
    not_before: datetime
    not_after: datetime
    certificate: str = Field(description="PEM.")
    chain: list[str] = Field(description="PEM, issuer first.")
    pkcs12: str | None
    warnings: list[str]


class PreviewedCertificate(BaseModel):
    """What would be issued."""

    subject: str
    names: list[str]
    not_before: datetime
    not_after: datetime
    warnings: list[str]


class Revocation(_Body):
    """``reason`` by its RFC 5280 name; ``issue_crl`` publishes a CRL at once."""

    reason: str = "unspecified"
    compromise_date: AwareDatetime | None = None
    comment: str = Field(default="", max_length=1000)
    issue_crl: bool = False


class Comment(_Body):
    comment: str = Field(default="", max_length=1000)
    issue_crl: bool = False


class SubjectRevocation(Revocation):
    subject: str = Field(max_length=4096)


class SubjectComment(Comment):
    subject: str = Field(max_length=4096)


class Renewal(_Body):
    validity: str | None = Field(default=None, max_length=100)


class Reissue(Renewal):
    """``csr`` brings another key; without it the same key is certified until the old end."""

    csr: str | None = Field(default=None, max_length=131072, description="PEM, or base64 of DER.")


class Changed(BaseModel):
    """The certificates that an action on a subject changed."""

    changed: list[Certificate]
