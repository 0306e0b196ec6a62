"""Values of the authority floor as the API shows them: DER as PEM, PKCS#12 as base64."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from datetime import datetime

from pydantic import BaseModel, Field

from intaglio.authority.cas.values import CaDetails, CreatedCa
from intaglio.authority.credentials import NewCredential
from intaglio.core.errors import InvalidInput
from intaglio.core.identifiers import serial_hex
from intaglio.x509.certificates import pem


class IssuedCredential(BaseModel):
    """A client credential just made. ``pkcs12`` (base64) and ``password`` are shown this once; null when the client
    keeps the key."""

    name: str
    serial_number: str
    not_after: datetime
    certificate: str = Field(description="PEM.")
    chain: list[str] = Field(description="PEM, issuer first.")
    pkcs12: str | None
    password: str | None


class NewCaAnswer(BaseModel):
    """A CA, and the credentials of the names that are new."""

    ca: CaDetails
    credentials: list[IssuedCredential]


def credential(made: NewCredential) -> IssuedCredential:
    """A new credential for the answer."""
    return IssuedCredential(
        name=made.name,
        serial_number=serial_hex(made.serial),
        not_after=made.not_after,
        certificate=pem(made.certificate),
        chain=[pem(each) for each in made.chain],
        pkcs12=None if made.pkcs12 is None else base64.b64encode(made.pkcs12).decode(),
        password=None if made.password is None else made.password.get_secret_value(),
    )


def created_ca(created: CreatedCa) -> NewCaAnswer:
    """A new or changed CA for the answer."""
    return NewCaAnswer(ca=created.ca, credentials=[credential(made) for made in created.credentials])


def bundle(certificates: Iterable[bytes]) -> str:
    """Certificates as one PEM text."""
    return "".join(pem(der) for der in certificates)


def octets(text: str, *, target: str) -> bytes | str:
    """What a client sent as PEM or as base64 of DER. Raises InvalidInput (``not-pem-or-base64``)."""
    if "-----BEGIN" in text:
        return text
    compact = re.sub(r"\s+", "", text)
    try:
        return base64.b64decode(compact, validate=True)
    except ValueError:
        raise InvalidInput(
            "This is neither PEM nor base64.",
            code="not-pem-or-base64",
            remedy="Send PEM, or DER in base64.",
            target=target,
        ) from None
