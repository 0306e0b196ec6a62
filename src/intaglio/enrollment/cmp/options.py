"""What can be chosen for a CMP endpoint."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator

from intaglio.core.errors import IntaglioError
from intaglio.enrollment.values import EndpointOptions
from intaglio.x509.certificates import CertificateInfo, read_certificates

Digest = Literal["sha1", "sha224", "sha256", "sha384", "sha512"]
Mac = Literal["hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512"]
SignatureClass = Literal["rsa", "ecdsa", "eddsa", "ml-dsa"]
Curve = Literal["P-256", "P-384", "P-521"]

#: Checks that an endpoint may leave out, and what follows from that.
EXCLUDABLE_TESTS: Final = {
    "message-time": "messageTime may be any time, so an old message can be repeated once its transaction is forgotten",
    "sender-nonce": "senderNonce may be absent or short, so an answer proves less that it is fresh",
    "recipient-nonce": "recipNonce of later messages need not repeat our nonce",
    "recipient": "the message may name any recipient",
    "key-usage": "a certificate that protects messages need not have the key usage digitalSignature",
    "protection-strength": "digests, MACs, iterations and signature classes beyond those listed protect messages",
    "trust-anchor": "whoever signs is admitted as a stranger; only at endpoints whose requests somebody approves",
}
ExcludableTest = Literal[
    "message-time",
    "sender-nonce",
    "recipient-nonce",
    "recipient",
    "key-usage",
    "protection-strength",
    "trust-anchor",
]

_MOST_ANCHORS = 64
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class CmpOptions(EndpointOptions):
    """Options of a CMP endpoint. Lists are what is admitted; everything else is refused."""

    protections: Annotated[tuple[Literal["signature", "mac"], ...], Field(min_length=1)] = Field(
        ("signature", "mac"), description="How messages may be protected: signature (certificates), mac (secrets)"
    )
    trusted: tuple[str, ...] = Field(
        (),
        max_length=20,
        description="Certificates (PEM) of CAs, such as those of device vendors, whose holders may ask. Those of the "
        "endpoint's own CA and profile always count; its other profiles if it is listed",
    )
    registration_authorities: tuple[str, ...] = Field(
        (), max_length=64, description="SHA-256 fingerprints of certificates whose holders act for others"
    )
    names: Literal["certificate", "request"] = Field(
        "certificate",
        description="What somebody with a certificate may be named: as that certificate says, or as he asks",
    )
    implicit_confirm: bool = Field(True, description="Do without a confirmation when the client asks for that")
    confirm_within: int = Field(3600, ge=10, le=7 * 86_400, description="Seconds in which a certificate is confirmed")
    unconfirmed: Literal["revoke", "keep"] = Field(
        "revoke", description="What becomes of a certificate that nobody confirms in time"
    )
    transactions: int = Field(
        10_000, ge=0, le=1_000_000, description="Most transactions under way; 0: none that takes several messages"
    )
    check_after: int = Field(
        30, ge=1, le=86_400, description="Seconds after which a client asks again for a request that waits for approval"
    )
    revoke_renewed: bool = Field(False, description="Revoke the old certificate once its update (kur) is confirmed")
    revocation: bool = Field(True, description="Answer requests for revocation (rr)")
    central_keys: bool = Field(False, description="Make keys for clients that ask without one, and send them encrypted")
    central_key_algorithm: Literal["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096"] = Field(
        "ecdsa-p256", description="What kind of key is made for them"
    )
    message_time_window: int = Field(300, ge=1, le=86_400, description="Seconds a messageTime may be off")
    require_message_time: bool = Field(False, description="Refuse messages that do not say their time")
    digests: Annotated[tuple[Digest, ...], Field(min_length=1)] = Field(
        ("sha256", "sha384", "sha512"), description="Digests of signatures and of password-based MACs"
    )
    macs: tuple[Mac, ...] = Field(
        ("hmac-sha1", "hmac-sha256", "hmac-sha384", "hmac-sha512"),
        description="MACs; HMAC-SHA1 is not weak the way SHA-1 is, and the default of many clients",
    )
    mac_iterations: tuple[int, int] = Field(
        (100, 100_000), description="Fewest and most iterations with which a secret becomes a key"
    )
    signature_classes: Annotated[tuple[SignatureClass, ...], Field(min_length=1)] = Field(
        ("rsa", "ecdsa", "eddsa", "ml-dsa"), description="Classes of signatures and of keys"
    )
    minimum_rsa_bits: int = Field(2048, ge=2048, le=16_384, description="Shortest RSA key")
    minimum_ec_bits: int = Field(256, ge=256, le=521, description="Shortest elliptic curve key")
    curves: Annotated[tuple[Curve, ...], Field(min_length=1)] = Field(
        ("P-256", "P-384", "P-521"), description="Elliptic curves of keys"
    )
    excluded_tests: tuple[ExcludableTest, ...] = Field(
        (), description=f"Checks that are left out: {', '.join(EXCLUDABLE_TESTS)}"
    )

    @field_validator("trusted")
    @classmethod
    def _readable_anchors(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            found = read_anchors(value)
        except IntaglioError as error:
            raise ValueError(error.detail) from None
        if len(found) > _MOST_ANCHORS:
            raise ValueError(f"there are more than {_MOST_ANCHORS} trust anchors")
        for anchor in found:
            if not anchor.is_ca:
                raise ValueError(f'"{anchor.subject.rfc4514}" is not a CA certificate')
        return value

    @field_validator("registration_authorities")
    @classmethod
    def _fingerprints(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        plain = tuple(each.replace(":", "").strip().lower() for each in value)
        if any(_FINGERPRINT.fullmatch(each) is None for each in plain):
            raise ValueError("a fingerprint is the SHA-256 of a certificate, 64 hexadecimal digits")
        return plain

    @field_validator("mac_iterations")
    @classmethod
    def _bounds(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= value[0] <= value[1] <= 10_000_000:
            raise ValueError("these are a least and a most, between 1 and 10000000")
        return value

    def excludes(self, test: ExcludableTest) -> bool:
        """Whether a check is left out."""
        return test in self.excluded_tests


def read_anchors(texts: Iterable[str]) -> list[CertificateInfo]:
    """The certificates of ``trusted``. Raises InvalidInput."""
    return [certificate for text in texts for certificate in read_certificates(text)]
