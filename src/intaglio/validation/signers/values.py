"""Signers of status authorities as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from intaglio.asn1 import der
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority.cas.values import KeyType
from intaglio.x509.certificates import CertificateInfo, read_certificate

#: ``delegated``: a certificate of the authority's own CA; ``shared``: for several authorities, trusted by clients by
#: itself; ``ca``: the key of one of our CAs; ``automatic``: certified and renewed by one of our CAs.
SignerKind = Literal["delegated", "shared", "ca", "automatic"]

#: A signer that somebody has to renew is warned of so long before its end.
WARNING_TIME = timedelta(days=14)
#: One that renews itself has done so ten days before its end; when it has not, something is wrong.
_OVERDUE = timedelta(days=7)
#: Certificates kept above that of a signer.
MOST_IN_CHAIN = 10


class NewSigner(BaseModel):
    """A signer as an operator asks for it."""

    model_config = ConfigDict(extra="forbid")

    kind: SignerKind = "delegated"
    authority: Annotated[str, Field(max_length=100)] | None = Field(
        default=None, description="Status authority that it signs for; none for a shared signer."
    )
    label: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")] | None = Field(
        default=None, description="What it is called; default: the name of the authority."
    )
    key_algorithm: KeyType = KeyAlgorithm.ECDSA_P256
    provider: Annotated[str, Field(max_length=200)] = Field(
        default="software", description="Where the key is made: software, or pkcs11: and the name of a token."
    )
    subject: Annotated[str, Field(max_length=2000)] = Field(
        default="", description="Subject of the certificate; default: CN and the key's id."
    )
    ca: Annotated[str, Field(max_length=200)] | None = Field(
        default=None, description="Our CA that certifies and renews it, ORGANIZATION~ID (automatic, shared)."
    )

    @model_validator(mode="after")
    def _goes_together(self) -> NewSigner:
        if self.kind == "shared":
            if self.authority is not None or self.label is None:
                raise ValueError("a shared signer has a label and no authority")
        elif self.authority is None:
            raise ValueError("name the status authority that this signer is for")
        if self.kind == "automatic" and self.ca is None:
            raise ValueError("name the CA that certifies this signer")
        if self.kind in ("delegated", "ca") and self.ca is not None:
            raise ValueError("only automatic and shared signers are certified by one of our CAs")
        return self


def ends_soon(not_after: datetime, now: datetime, *, renews_itself: bool) -> bool:
    """Whether the end of a signer's certificate is worth a warning."""
    return not_after - now < (_OVERDUE if renews_itself else WARNING_TIME)


@dataclass(frozen=True)
class StoredSigner:
    """A signer as it is stored. ``authority`` is the name of its authority, None for a shared one; ``request`` the
    PKCS #10 request that was made over its key; ``issuing_ca_id`` our CA that renews it."""

    id: UUID
    authority_id: UUID | None
    authority: str | None
    kind: SignerKind
    label: str
    key_id: UUID
    request: bytes | None = field(repr=False)
    certificate: CertificateInfo | None = field(repr=False)
    chain: tuple[CertificateInfo, ...] = field(repr=False)
    current: bool
    issuing_ca_id: UUID | None
    created_by: str
    created_at: datetime

    def state(self, now: datetime) -> str:
        """awaiting-certificate, current, replaced (still valid) or expired."""
        if self.certificate is None:
            return "awaiting-certificate"
        if self.certificate.not_after <= now:
            return "expired"
        return "current" if self.current else "replaced"

    @property
    def renew_at(self) -> datetime | None:
        """Two thirds of its life; None without a certificate."""
        if self.certificate is None:
            return None
        begin, end = self.certificate.not_before, self.certificate.not_after
        return begin + (end - begin) * 2 / 3

    @classmethod
    def of(cls, row: Mapping[Any, Any], authority: str | None) -> StoredSigner:
        elements = der.children(row["chain"] or b"", MOST_IN_CHAIN)
        return cls(
            id=row["id"],
            authority_id=row["authority_id"],
            authority=authority,
            kind=row["kind"],
            label=row["label"],
            key_id=row["key_id"],
            request=row["request"],
            certificate=None if row["certificate"] is None else read_certificate(row["certificate"]),
            chain=tuple(read_certificate(element.der) for element in elements),
            current=row["current"],
            issuing_ca_id=row["issuing_ca_id"],
            created_by=row["created_by"],
            created_at=row["created_at"],
        )
