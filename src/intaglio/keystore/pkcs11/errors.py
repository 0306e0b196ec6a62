"""What tokens say, in our words.

A token that is not there is an outage (503) that ends by itself; a PIN that is wrong is not, and is never tried again
by itself, because tokens lock after a few attempts.
"""

from __future__ import annotations

from pkcs11 import exceptions as ck

from intaglio.core.errors import IntaglioError, NotSupported, Refused, Unavailable

#: The same call would fail again on a sound session: nothing is lost, nothing to reconnect.
PERMANENT: tuple[type[Exception], ...] = (
    ck.MechanismInvalid, ck.MechanismParamInvalid, ck.DataInvalid, ck.DataLenRange, ck.KeyTypeInconsistent,
    ck.KeySizeRange, ck.TemplateIncomplete, ck.TemplateInconsistent, ck.AttributeTypeInvalid,
    ck.AttributeValueInvalid, ck.AttributeReadOnly, ck.AttributeSensitive, ck.DomainParamsInvalid,
    ck.FunctionNotSupported, ck.TokenWriteProtected, ck.KeyUnextractable, ck.ArgumentsBad,
)  # fmt: skip
#: The token may be as it was; only what we held of it is worth nothing any more.
STALE: tuple[type[Exception], ...] = (
    ck.SessionHandleInvalid, ck.SessionClosed, ck.ObjectHandleInvalid, ck.KeyHandleInvalid, ck.UserNotLoggedIn,
    ck.OperationActive, ck.OperationNotInitialized, ck.NoSuchKey,
)  # fmt: skip
#: The session is as good as before.
HARMLESS: tuple[type[Exception], ...] = (IntaglioError, *PERMANENT)
WRONG_PIN: tuple[type[Exception], ...] = (ck.PinIncorrect, ck.PinInvalid, ck.PinLenRange)
UNUSABLE_PIN: tuple[type[Exception], ...] = (ck.PinLocked, ck.PinExpired)


class PinRefused(Unavailable):
    """The token does not take the PIN. Stays until an operator sets another one."""

    default_code = "token-pin-wrong"


def pin_wrong(name: str) -> PinRefused:
    return PinRefused(
        f'The token "{name}" does not accept its PIN.',
        remedy=f"Set the right one: intaglio hsm token set-pin {name}. Until then it is not tried again, because "
        "tokens lock after a few attempts.",
    )


def pin_unusable(name: str, what: str) -> PinRefused:
    return PinRefused(
        f'The token "{name}" lets nobody log in: its PIN {what}.',
        code="token-pin-locked",
        remedy="Let its security officer set a new PIN, then: intaglio hsm token set-pin.",
    )


def unavailable(name: str, reason: str) -> Unavailable:
    return Unavailable(
        f'The token "{name}" is not available: {reason}.',
        code="token-unavailable",
        remedy="Everything goes on by itself once the token is back; see intaglio hsm check.",
        retry_after=2,
    )


def busy(name: str, seconds: float) -> Unavailable:
    return Unavailable(
        f'The token "{name}" did not answer within {seconds:g} seconds.',
        code="token-unavailable",
        remedy="Allow it more sessions if it is only busy: intaglio hsm token add --sessions; see intaglio hsm check.",
        retry_after=2,
    )


def key_missing(name: str) -> Unavailable:
    return Unavailable(
        f'The token "{name}" does not hold the private key.',
        code="token-key-missing",
        remedy="Is it the right token? Otherwise restore its keys from the backup of the token.",
        retry_after=2,
    )


def refused(name: str, error: Exception) -> IntaglioError:
    """A refusal that is no outage."""
    if isinstance(error, ck.TokenWriteProtected):
        return Refused(f'The token "{name}" is write-protected.', code="token-write-protected")
    return NotSupported(
        f'The token "{name}" cannot do this: {describe(error)}.',
        code="token-not-capable",
        remedy="See what it can do: intaglio hsm check.",
    )


def describe(error: BaseException) -> str:
    """A PKCS #11 error by its name in the standard where it has one (CKR_DEVICE_REMOVED), else its text."""
    kind = type(error)
    if isinstance(error, ck.PKCS11Error) and kind is not ck.PKCS11Error:
        name = "".join(f"_{c}" if c.isupper() and i else c for i, c in enumerate(kind.__name__)).upper()
        return f"CKR_{name}"
    return str(error).strip().rstrip(".") or kind.__name__
