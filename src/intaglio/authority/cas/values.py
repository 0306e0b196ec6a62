"""What is asked of a CA, and what is told about one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority.credentials import CredentialWish, NewCredential
from intaglio.authority.options import CaOptions
from intaglio.core.errors import InvalidInput, Refused


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return KeyAlgorithm.parse(value)
    except InvalidInput as error:
        raise ValueError(str(error)) from None


#: A key algorithm under any of its names.
KeyType = Annotated[KeyAlgorithm, BeforeValidator(_parsed)]
Names = Annotated[list[str], Field(max_length=200)]
ProfileIds = Annotated[list[str], Field(max_length=200)]
Label = Annotated[str, Field(max_length=200)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SubjectAttribute(_Value):
    """One attribute of a subject: its type by alias or dotted OID, and its value."""

    type: str = Field(max_length=100)
    value: str = Field(max_length=1000)


class CredentialOptions(_Value):
    """How the client credentials are made that a new name gets."""

    compatibility: Literal["modern", "legacy"] = "modern"
    key_algorithm: KeyType = KeyAlgorithm.ECDSA_P256
    not_after: AwareDatetime | None = None

    @property
    def wish(self) -> CredentialWish:
        return CredentialWish(self.compatibility, self.key_algorithm, self.not_after)


class NewCa(_Value):
    """What every CA with a key of its own needs.

    ``subject`` is text (RFC 4514, or OpenSSL's slash form) or attributes in encoding order; it must have a CN.
    ``key_provider`` is where its key is made: ``software``, or ``pkcs11:<token>`` for one that never leaves its token.
    ``not_after`` None means the longest validity there is. ``ocsp_key_algorithm`` is the key type of its OCSP signer:
    None for that of the CA, ``off`` for a CA without OCSP.
    """

    name: str = Field(description="CA id, unique in the organization.")
    key_algorithm: KeyType
    key_provider: str = Field(default="software", max_length=80)
    subject: str | list[SubjectAttribute]
    not_after: AwareDatetime | None = None
    profiles: ProfileIds
    administrators: Names
    auditors: Names = []
    ocsp_key_algorithm: KeyType | Literal["off"] | None = None
    label: Label = ""
    options: CaOptions = CaOptions()
    credentials: CredentialOptions = CredentialOptions()


class NewRoot(NewCa):
    """A root CA: its key is generated here and signs its own certificate."""


class NewIssuing(NewCa):
    """An issuing CA below ``issuer``, a CA id of the same organization.

    ``path_length`` further CA certificates may follow below it.
    """

    issuer: str
    path_length: int = Field(default=0, ge=0, le=8)


class NewExternalRoot(_Value):
    """A root CA kept elsewhere: only its certificate is here (PEM, or base64 of DER or PKCS #7)."""

    name: str
    certificate: str | bytes
    label: Label = ""


class CaChanges(_Value):
    """What can be changed of a CA; None leaves it. Names that are missing from a list lose that right at once."""

    profiles: ProfileIds | None = None
    administrators: Names | None = None
    auditors: Names | None = None
    label: Label | None = None
    options: CaOptions | None = None
    credentials: CredentialOptions = CredentialOptions()

    @classmethod
    def parse(cls, content: dict[str, Any]) -> CaChanges:
        """Changes from outside. Raises Refused (``setting-frozen``) for what is fixed once a CA exists."""
        if frozen := sorted(set(content) & _FROZEN):
            raise setting_frozen(frozen)
        return cls.model_validate(content)


_FROZEN = {
    *("name", "kind", "type", "key_algorithm", "subject", "not_after", "not_before", "issuer", "path_length"),
    *("key_provider", "ocsp_key_algorithm", "organization", "certificate"),
}


def setting_frozen(names: list[str]) -> Refused:
    """The refusal to change what is fixed."""
    return Refused(
        f"{', '.join(names)} cannot be changed once a CA exists.",
        code="setting-frozen",
        remedy="Renew or re-key the CA for a new certificate or key; create another CA for everything else.",
        target=names[0],
        extra={"fields": names},
    )


class CaDetails(_Value):
    """A CA as shown. ``type`` is ca-root, ca-external-root, ca-issuing, ca-client or ca-platform.

    ``key_provider`` is where its current key is, ``retirement_note`` says until when that is good by NIST IR 8547;
    dates, serial number and fingerprint (SHA-256, both in hexadecimal) are those of its current certificate, None while
    it has none; ``certificate_status`` is valid, held or revoked as far as a CA of ours issued it. ``path_length`` is
    how many further CA certificates may follow below it, None for any number. ``reserved_until`` is set for a deleted
    CA: until then nobody gets its id. ``warnings`` says what is out of date about an external root.
    """

    id: str
    organization: str
    name: str
    type: str
    state: str
    label: str
    subject: str
    issuer: str | None
    has_key: bool
    key_algorithm: KeyAlgorithm | None
    key_provider: str | None
    signature_algorithm: str | None
    retirement_note: str | None
    ocsp_key_algorithm: KeyAlgorithm | None
    generation: int
    serial_number: str | None
    fingerprint: str | None
    certificate_status: str | None
    not_before: datetime | None
    not_after: datetime | None
    path_length: int | None
    request_pending: bool
    profiles: tuple[str, ...]
    administrators: tuple[str, ...]
    auditors: tuple[str, ...]
    tenants: tuple[str, ...]
    options: CaOptions
    created_by: str
    created_at: datetime
    deleted_at: datetime | None
    reserved_until: datetime | None
    warnings: tuple[str, ...]


class CreatedCa(BaseModel):
    """A CA and the credentials of those who are new, shown this once."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    ca: CaDetails
    credentials: tuple[NewCredential, ...] = ()
