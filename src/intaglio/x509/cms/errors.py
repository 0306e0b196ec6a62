"""What is wrong with a message: one error per kind, so that adapters translate by code."""

from __future__ import annotations

from intaglio.core.errors import InvalidInput, TooLarge


def unparsable(why: str) -> InvalidInput:
    """The message is not what it should be."""
    return InvalidInput(
        f"The CMS message cannot be read: {why.rstrip('.')}.",
        code="cms-unparsable",
        remedy="Send a CMS (PKCS #7) structure in DER or BER, whole and without anything behind it.",
    )


def too_large(limit: int) -> TooLarge:
    """The message exceeds the limit, in octets."""
    return TooLarge(f"The CMS message is longer than {limit} octets.", code="cms-too-large")


def not_allowed(what: str) -> InvalidInput:
    """An algorithm that is unknown, too weak, or switched off."""
    return InvalidInput(
        f"The CMS message uses an algorithm that is not accepted: {what}.",
        code="cms-algorithm-not-allowed",
        remedy="Use SHA-256 or longer for digests, AES in CBC mode for encryption, RSA or EC keys.",
    )


def bad_signature(why: str) -> InvalidInput:
    """The signature does not hold."""
    return InvalidInput(f"The signature of the CMS message is not valid: {why}.", code="cms-signature-invalid")


def undecryptable() -> InvalidInput:
    """The content could not be had. There is one such error: which step failed would help to guess the content."""
    return InvalidInput(
        "The CMS message cannot be decrypted with this key.",
        code="cms-undecryptable",
        remedy="Encrypt for the certificate that the service hands out now.",
    )


def wrong_recipient() -> InvalidInput:
    """The message was encrypted for somebody else; that stands in the clear in the message itself."""
    return InvalidInput(
        "The CMS message is encrypted for another certificate.",
        code="cms-wrong-recipient",
        remedy="Ask for the certificate of the service again, and encrypt for that.",
    )
