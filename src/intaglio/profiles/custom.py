"""Custom profiles: clones of others with changes, versioned. Storing them is the caller's business."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from intaglio.core.errors import Forbidden, InvalidInput
from intaglio.core.identifiers import Grammar
from intaglio.profiles import registry
from intaglio.profiles.declarations import parse_declaration, validated
from intaglio.profiles.model import CertificateProfile

#: Grammar of the id of a custom profile. ``_`` is accepted and becomes ``-``.
CUSTOM_ID: Final = Grammar("A profile id", 3, 64)

#: What says which profile this is; never changed by `clone` or `revise`.
_IDENTITY: Final = frozenset({"id", "version", "kind", "based_on", "configurable"})
#: Under ids that begin so the platform issues to itself; what is recorded under them must not come from anybody else.
_RESERVED: Final = ("basic-ca-", "basic-ocsp", "client-credential", "platform-")
_CUSTOM_KINDS: Final = frozenset({"end-entity", "external-subordinate"})


def check_custom_id(text: str) -> str:
    """The normal form of a custom profile id. Raises InvalidInput for anything outside the grammar, and for the id of a
    built-in profile or one that the platform keeps for itself."""
    value = CUSTOM_ID.check(text.strip().lower(), target="id").replace("_", "-")
    if not value[0].isalpha() or value.endswith("-") or "--" in value:
        raise InvalidInput("A profile id starts with a letter and joins words with single hyphens.", target="id")
    if registry.find(value) is not None or value.startswith(_RESERVED):
        raise InvalidInput(
            f'"{value}" is the id of a built-in profile.',
            code="profile-exists",
            remedy="Choose another id.",
            target="id",
        )
    return value


def clone(source: CertificateProfile, new_id: str, changes: Mapping[str, Any]) -> CertificateProfile:
    """A custom profile, version 1, that is ``source`` with other values in the fields named by ``changes``.

    A changed field is replaced as a whole. The caller makes sure that no custom profile has ``new_id`` yet. Raises
    Forbidden (``profile-immutable``) for the platform's internal profiles and InvalidInput for changes that are not
    allowed.
    """
    if not source.configurable:
        raise _immutable(source)
    content = _changed(source, changes)
    content.update(id=check_custom_id(new_id), version=1, based_on=f"{source.id} {source.version}")
    return validated(content)


def revise(current: CertificateProfile, changes: Mapping[str, Any]) -> CertificateProfile:
    """The next version of a custom profile, or ``current`` itself when ``changes`` change nothing.

    Every change makes a new version, so that a certificate's (profile, version) always says what it was issued under.
    Raises Forbidden (``profile-immutable``) for a built-in profile, which is cloned instead.
    """
    if registry.find(current.id) is not None:
        raise _immutable(current)
    candidate = validated(_changed(current, changes))
    return current if candidate == current else candidate.model_copy(update={"version": current.version + 1})


def from_declaration(text: str, current: CertificateProfile | None = None) -> CertificateProfile:
    """A custom profile declared in full: version 1, or the version after ``current`` when it says something else.

    Raises InvalidInput as `parse_declaration` does, and for the kinds that only the platform itself issues.
    """
    declared = parse_declaration(text)
    profile_id = check_custom_id(declared.id)
    if declared.kind not in _CUSTOM_KINDS:
        raise InvalidInput(
            f"A custom profile cannot be of kind {declared.kind}.",
            code="profile-invalid",
            remedy="The platform issues its own CA and OCSP certificates from built-in profiles.",
            target="kind",
            fields=[("kind", "is reserved for built-in profiles")],
        )
    version = current.version if current is not None else 1
    candidate = declared.model_copy(update={"id": profile_id, "configurable": True, "version": version})
    if current is None or candidate == current:
        return candidate
    return candidate.model_copy(update={"version": version + 1})


def _changed(profile: CertificateProfile, changes: Mapping[str, Any]) -> dict[str, Any]:
    if fixed := sorted(_IDENTITY & set(changes)):
        raise InvalidInput(
            f"{', '.join(fixed)} of a profile cannot be changed.",
            code="profile-invalid",
            remedy="Leave it out of the changes.",
            fields=[(name, "cannot be changed") for name in fixed],
        )
    return {**profile.model_dump(mode="json"), **changes}


def _immutable(profile: CertificateProfile) -> Forbidden:
    remedy = (
        "Clone it into a custom profile and change that."
        if profile.configurable
        else "The platform issues its own CA and OCSP certificates from it; choose another profile."
    )
    return Forbidden(f'The built-in profile "{profile.id}" cannot be changed.', code="profile-immutable", remedy=remedy)
