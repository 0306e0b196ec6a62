"""The refusals of automatic issuance."""

from __future__ import annotations

from intaglio.core.errors import Forbidden, IntaglioError, StateConflict, Unauthenticated

_ANOTHER = "Have a new one made: intaglio mtls agent token IDENTITY."


def token_invalid() -> Unauthenticated:
    """Unknown, mistyped or wrong: who guesses must not learn which."""
    return Unauthenticated("The bootstrap token is not valid.", code="bootstrap-token-invalid", remedy=_ANOTHER)


def token_ended(state: str) -> IntaglioError:
    """The refusal of a bootstrap token that was good once: expired, revoked, locked or used."""
    said = {
        "expired": "has expired",
        "revoked": "was revoked",
        "locked": "is locked after too many wrong attempts",
        "used": "was used",
    }[state]
    kind = StateConflict if state == "used" else Forbidden
    return kind(f"The bootstrap token {said}.", code=f"bootstrap-token-{state}", remedy=_ANOTHER)


def wrong_network(source: str) -> Forbidden:
    return Forbidden(
        f"The bootstrap token may not be used from {source}.",
        code="bootstrap-token-network",
        remedy="Use it where it was meant for, or have one made for this network.",
    )


def wrong_purpose() -> Forbidden:
    return Forbidden(
        "The bootstrap token was made for the other interface.",
        code="bootstrap-token-purpose",
        remedy="Agents need one of purpose sign, the Vault-compatible interface one of purpose approle.",
    )


def login_invalid() -> Forbidden:
    """A token of the Vault-compatible interface that is unknown, expired, revoked, or has lost its ground."""
    return Forbidden("permission denied: log in again.", code="login-invalid", remedy="")


def pipeline_unknown() -> Forbidden:
    """Neither whether the name exists nor what it asks for is told to whoever has no good token."""
    return Forbidden(
        "No pipeline of this name accepts the token.",
        code="pipeline-refused",
        remedy="Compare issuer, audience and conditions: intaglio mtls pipeline show NAME.",
    )


def identity_token_used() -> Forbidden:
    """A token that was taken before, as often as its pipeline takes one."""
    return Forbidden(
        "The identity token was used already.",
        code="identity-token-used",
        remedy="Get a fresh token for each certificate, or let the pipeline take one several times (--token-uses).",
    )


def jwt_invalid(why: str) -> Unauthenticated:
    """A token of a token issuer that proves nothing; ``why`` quotes nothing of it."""
    return Unauthenticated(f"The identity token does not count: {why}.", code="identity-token-invalid")


def person(name: str) -> Forbidden:
    """People renew with their device in their hands, by the rules of enrolment; nothing here is for them."""
    return Forbidden(
        f'"{name}" is a person; certificates without anybody at work are for machines.',
        code="identity-is-a-person",
        remedy="People enrol with a security code and renew on the enrolment page.",
    )
