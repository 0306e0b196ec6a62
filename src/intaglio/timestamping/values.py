"""What can be said about timestamp issuers and their signers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self, get_args
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from intaglio.asn1 import der
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.asn1.signature_schemes import Digest
from intaglio.core.errors import InvalidInput
from intaglio.timestamping.numbering import LONGEST_SERIAL, SHORTEST_SERIAL

HashName = Literal["sha1", "sha224", "sha256", "sha384", "sha512", "sha3-256", "sha3-384", "sha3-512"]
HASH_NAMES: Final[tuple[HashName, ...]] = get_args(HashName)
#: Key types that signers of timestamps may have.
KEY_ALGORITHMS: Final = (
    KeyAlgorithm.ECDSA_P256,
    KeyAlgorithm.ECDSA_P384,
    KeyAlgorithm.ECDSA_P521,
    KeyAlgorithm.RSA_2048,
    KeyAlgorithm.RSA_3072,
    KeyAlgorithm.RSA_4096,
)
RESERVED_NAMES: Final = frozenset({"health"})
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9~._-]{0,99}")
_UNITS: Final = {"s": 1_000_000, "ms": 1_000, "us": 1, "µs": 1}
_LONGEST_ACCURACY: Final = 3600 * 1_000_000


def issuer_name(name: str) -> str:
    """The name unchanged. Raises InvalidInput (``timestamp-issuer-name``) unless it can stand in a URL."""
    if not _NAME.fullmatch(name) or name in RESERVED_NAMES:
        raise InvalidInput(
            f'"{name[:100]}" cannot be the id of a timestamp issuer.',
            code="timestamp-issuer-name",
            remedy="Use 1 to 100 of a-z, 0-9, '~', '.', '_' and '-', beginning with a letter or digit; not 'health'.",
            target="name",
        )
    return name


def parse_accuracy(text: Any) -> Any:
    """Microseconds of ``1s``, ``500ms``, ``1s 500ms 20us``; anything but text is left to the type."""
    if not isinstance(text, str):
        return text
    parts = re.findall(r"(\d{1,9})\s*(s|ms|us|µs)\b\s*", text)
    if not parts or "".join(re.split(r"\s+", text)) != "".join(n + u for n, u in parts):
        raise ValueError("an accuracy is written like 1s, 500ms or 1s 500ms")
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def _policy(text: str) -> str:
    try:
        der.oid(text)
    except InvalidInput as error:
        raise ValueError(error.detail) from None
    return text


def _unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) != len(values):
        raise ValueError("names the same thing twice")
    return values


PolicyOid = Annotated[str, Field(max_length=200), AfterValidator(_policy)]
Accuracy = Annotated[int, BeforeValidator(parse_accuracy), Field(ge=1, le=_LONGEST_ACCURACY)]


class TokenProfile(BaseModel):
    """What the tokens of an issuer say, and for which requests."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: PolicyOid = Field(description="Dotted OID of the policy the tokens are issued under.")
    accuracy: Accuracy | None = Field(
        default=None, description="How far genTime may be off: text such as 500ms, or microseconds; null: not stated."
    )
    hashes: Annotated[tuple[HashName, ...], Field(min_length=1), AfterValidator(_unique)] = Field(
        default=("sha224", "sha256", "sha384", "sha512"), description="Hash algorithms that requests may use."
    )
    digest: Digest = Field(default="sha256", description="Digest of the signature; one of the hash algorithms.")
    ordering: bool = Field(
        default=False, description="Tokens can be sorted by their time alone; costs a database statement per batch."
    )
    serial_octets: int = Field(
        default=SHORTEST_SERIAL,
        ge=SHORTEST_SERIAL,
        le=LONGEST_SERIAL,
        description="Length of serial numbers in octets.",
    )
    qualified: bool = Field(
        default=False, description="Call the tokens qualified electronic timestamps (ETSI EN 319 422 section 9.1)."
    )
    log_responses: bool = Field(
        default=False, description="Write every response into the log, in base64, as tsa-timestampresponse-encoded."
    )

    @model_validator(mode="after")
    def _digest_is_allowed(self) -> Self:
        if self.digest not in self.hashes:
            raise ValueError("digest must be one of hashes")
        return self


class SignerOptions(BaseModel):
    """How the keys of a signer are made, and what its certificates say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key_algorithm: KeyAlgorithm = KeyAlgorithm.ECDSA_P256
    provider: str = Field(
        default="software", max_length=120, description="Where keys are made: software, pkcs11:TOKEN."
    )
    subject: str = Field(default="", max_length=1000, description="Subject of the certificates; empty: made up.")
    lifetime_days: int = Field(
        default=1095, ge=1, le=3660, description="Life of a certificate; a new one follows after two thirds of it."
    )
    policies: tuple[PolicyOid, ...] = Field(default=(), max_length=16, description="Certificate policies.")
    access_information: bool = Field(default=True, description="Say in certificates where their status is asked for.")

    @model_validator(mode="after")
    def _key_can_sign(self) -> Self:
        if self.key_algorithm not in KEY_ALGORITHMS:
            raise ValueError(f"key_algorithm must be one of {', '.join(KEY_ALGORITHMS)}")
        return self


@dataclass(frozen=True)
class SignerKey:
    """One key of a signer. ``certificate`` is None while it waits for one; ``status`` is that of the certificate
    at the CA, ``valid`` where another CA issued it."""

    id: UUID
    signer_id: UUID
    state: str
    key_id: UUID
    request: bytes | None = field(repr=False)
    certificate: bytes | None = field(repr=False)
    chain: tuple[bytes, ...] = field(repr=False)
    certificate_id: UUID | None
    not_before: datetime | None
    not_after: datetime | None
    status: str = "valid"

    @property
    def renew_at(self) -> datetime | None:
        """When two thirds of the certificate's life are over."""
        if self.not_before is None or self.not_after is None:
            return None
        return self.not_before + (self.not_after - self.not_before) * 2 / 3


@dataclass(frozen=True)
class SignerRecord:
    """A signer with the key in use and the one that waits for a certificate."""

    id: UUID
    kind: str
    ca_id: UUID | None
    options: SignerOptions
    current: SignerKey | None
    pending: SignerKey | None


@dataclass(frozen=True)
class IssuerRecord:
    """An issuer as it is stored."""

    id: UUID
    name: str
    enabled: bool
    profile: TokenProfile
    signer: SignerRecord
    version: int
    created_by: str
    created_at: datetime
    changed_at: datetime
