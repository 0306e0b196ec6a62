"""The built-in profiles, and finding a profile by the id a client wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

from intaglio.core.errors import NotFound
from intaglio.profiles.declarations import load_trusted
from intaglio.profiles.model import CertificateProfile


@cache
def builtin_profiles() -> Mapping[str, CertificateProfile]:
    """All built-in profiles by id, in order of group and id; read and validated once per process."""
    return _load("builtin")


@cache
def identity_profiles() -> Mapping[str, CertificateProfile]:
    """The profiles of identities by id, in order of id. Only the registry of identities issues with them."""
    return _load("identity")


def normal_id(text: str) -> str:
    """The spelling under which a profile is stored: lower case, hyphens for underscores."""
    return text.strip().lower().replace("_", "-")


def get(profile_id: str) -> CertificateProfile:
    """The shipped profile with exactly this id. Raises NotFound (code ``profile-unknown``)."""
    if (profile := find(profile_id)) is None:
        raise unknown(profile_id)
    return profile


def find(profile_id: str) -> CertificateProfile | None:
    """The shipped profile (built-in, or of identities) with exactly this id, or None."""
    return builtin_profiles().get(profile_id) or identity_profiles().get(profile_id)


def resolve(profile_id: str, custom: Mapping[str, CertificateProfile] | None = None) -> CertificateProfile:
    """The profile a client means by ``profile_id``, written with ``-`` or ``_`` in any case.

    ``custom`` are the custom profiles by id; the id of a shipped profile always means that one.
    Raises NotFound (code ``profile-unknown``).
    """
    wanted = normal_id(profile_id)
    profile = find(wanted) or (custom or {}).get(wanted)
    if profile is None:
        raise unknown(profile_id)
    return profile


def listed(custom: Iterable[CertificateProfile] = (), *, hidden: bool = False) -> list[CertificateProfile]:
    """Built-in profiles, those of identities, then custom ones; what is not exposed only when ``hidden`` is set."""
    shipped = (*builtin_profiles().values(), *identity_profiles().values())
    return [profile for profile in (*shipped, *custom) if profile.exposed or hidden]


def groups() -> list[str]:
    """The groups of the shipped profiles, sorted."""
    return sorted({profile.group for profile in listed(hidden=True)})


def unknown(profile_id: str) -> NotFound:
    """The refusal of an id that names no profile."""
    return NotFound(
        f'There is no certificate profile "{profile_id[:80]}".',
        code="profile-unknown",
        remedy="`intaglio profile list` shows the profiles.",
        target="profileId",
        extra={"step": "profile"},
    )


def _load(folder: str) -> Mapping[str, CertificateProfile]:
    entries = (resources.files("intaglio.profiles") / folder).iterdir()
    loaded = [load_trusted(entry.read_bytes()) for entry in entries if entry.name.endswith(".yaml")]
    return MappingProxyType({profile.id: profile for profile in sorted(loaded, key=lambda each: (each.group, each.id))})
