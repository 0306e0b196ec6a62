"""The refusals of enrolment, with the codes its interface promises."""

from __future__ import annotations

from intaglio.core.errors import Forbidden, InvalidInput, RateLimited, StateConflict, Unavailable


def code_invalid() -> Forbidden:
    """Unknown, mistyped or wrong: who guesses must not learn which."""
    return Forbidden(
        "The security code is not valid.",
        code="code_invalid",
        remedy="Check it for typing errors, or ask your administrator for a new one.",
    )


def code_expired() -> Forbidden:
    return Forbidden(
        "The security code has expired.", code="code_expired", remedy="Ask your administrator for a new one."
    )


def code_revoked() -> Forbidden:
    return Forbidden(
        "The security code was withdrawn.", code="code_revoked", remedy="Ask your administrator for a new one."
    )


def code_used() -> StateConflict:
    return StateConflict(
        "The security code was used: its certificate is issued.",
        code="code_used",
        remedy="If it was not you, or you lost the file, tell your administrator and ask for a new code.",
    )


def code_locked(seconds: int) -> RateLimited:
    return RateLimited(
        "There were too many failed attempts with this security code.",
        code="code_locked",
        remedy="Ask your administrator for a new one.",
        retry_after=seconds,
    )


def code_not_approved() -> Forbidden:
    return Forbidden(
        "The security code waits for the approval of a second person.",
        code="code-not-approved",
        remedy="Try again once it is approved.",
    )


def email_not_allowed() -> Forbidden:
    return Forbidden(
        "The security code was not made for this e-mail address.",
        code="email_not_allowed",
        remedy="Enter the address that your administrator has for you.",
        target="email",
    )


def csr_malformed(detail: str) -> InvalidInput:
    return InvalidInput(
        detail, code="csr_malformed", remedy="Send a PKCS #10 request in PEM, or base64 DER.", target="csr"
    )


def csr_signature() -> InvalidInput:
    return InvalidInput(
        "The signature of the certificate request is not valid under its own public key.",
        code="csr_signature",
        remedy="Sign the request with the private key that belongs to it.",
        target="csr",
    )


def csr_key_type(detail: str, remedy: str) -> InvalidInput:
    return InvalidInput(detail, code="csr_key_type", remedy=remedy, target="csr")


def csr_mismatch(detail: str, remedy: str) -> InvalidInput:
    return InvalidInput(detail, code="csr_mismatch", remedy=remedy, target="csr")


def private_key_received() -> InvalidInput:
    return InvalidInput(
        "The request contains a private key. It was thrown away unread and must not be used any more.",
        code="private_key_received",
        remedy="Make a new key, keep it to yourself, and send only the certificate request.",
    )


def ca_unavailable(why: str) -> Unavailable:
    return Unavailable(
        f"The certificate authority cannot issue at the moment: {why}",
        code="ca_unavailable",
        remedy="Send the same request again in the same session in a moment; your security code is still good.",
        retry_after=5,
    )


def rate_limited(seconds: int, who: str = "your address") -> RateLimited:
    return RateLimited(
        f"Too many requests from {who}.",
        code="rate_limited",
        remedy=f"Try again in {seconds} s.",
        retry_after=seconds,
    )
