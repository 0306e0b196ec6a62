"""Names that identify a user must be the authenticated requester's.

Nothing is compared while the requester is unknown. Once any of its identities is known, an identity in the request that
cannot be compared is refused like a wrong one.
"""

from __future__ import annotations

from typing import Final

from intaglio.profiles.engine.refusals import refused
from intaglio.profiles.engine.values import IssuanceInput
from intaglio.x509.general_names import USER_PRINCIPAL_NAME, GeneralName, GeneralNames

#: Prefix of a SAN URI that Windows maps to an account like the security extension. Source: Microsoft KB5014754.
_SID_URI: Final = "tag:microsoft.com,2022-09-14:sid:"
_UPN_TEXT: Final = "userPrincipalName="


def check_names(request: IssuanceInput, san: GeneralNames) -> None:
    """Refuse user principal names and security identifiers of others in the subject alternative name."""
    if not _is_known(request):
        return
    for entry in san.entries:
        if is_upn(entry) and _upn(entry) != (request.requester_upn or "").casefold():
            raise refused(
                "san",
                "requester-mismatch",
                f'The request carries the user principal name "{printable(entry.text)}", which is not that of the '
                "requester.",
                "Ask for a certificate with your own user principal name, or with none.",
                target="subjectAltNames",
            )
        if entry.type == "uniformResourceIdentifier" and entry.text.lower().startswith(_SID_URI):
            check_sid(request, entry.text[len(_SID_URI) :])


def check_sid(request: IssuanceInput, sid: str) -> None:
    """Refuse a security identifier of somebody else."""
    if not _is_known(request):
        return
    if request.requester_sid is None or sid.upper() != request.requester_sid.upper():
        raise refused(
            "extensions",
            "requester-mismatch",
            f'The request carries the security identifier "{printable(sid)}", which is not that of the requester.',
            "Ask for a certificate with your own security identifier, or with none.",
            target="extensions",
        )


def is_upn(entry: GeneralName) -> bool:
    """Whether a general name is a user principal name, in whatever string type."""
    return entry.type == "otherName" and entry.text.startswith((_UPN_TEXT, f"{USER_PRINCIPAL_NAME};"))


def printable(text: str) -> str:
    """Text from a request, short and without control characters, for messages."""
    return "".join(character if character.isprintable() else "?" for character in text[:80])


def _is_known(request: IssuanceInput) -> bool:
    return request.requester_upn is not None or request.requester_sid is not None


def _upn(entry: GeneralName) -> str | None:
    """None for a name that is no UTF8String and equals nothing."""
    return entry.text[len(_UPN_TEXT) :].casefold() if entry.text.startswith(_UPN_TEXT) else None
