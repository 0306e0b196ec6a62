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
    folder = resources.files("intaglio.profiles") / "builtin"
    loaded = [load_trusted(entry.read_bytes()) for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    return MappingProxyType({profile.id: profile for profile in sorted(loaded, key=lambda each: (each.group, each.id))})


def normal_id(text: str) -> str:
    """The spelling under which a profile is stored: lower case, hyphens for underscores."""
    return text.strip().lower().replace("_", "-")


def get(profile_id: str) -> CertificateProfile:
    """The built-in profile with exactly this id. Raises NotFound (code ``profile-unknown``)."""
    try:
        return builtin_profiles()[profile_id]
    except KeyError:
        raise unknown(profile_id) from None


def find(profile_id: str) -> CertificateProfile | None:
    """The built-in profile with exactly this id, or None."""
    return builtin_profiles().get(profile_id)


def resolve(profile_id: str, custom: Mapping[str, CertificateProfile] | None = None) -> CertificateProfile:
    """The profile a client means by ``profile_id``, written with ``-`` or ``_`` in any case.

    ``custom`` are the custom profiles by id; a built-in id always means the built-in profile.
    Raises NotFound (code ``profile-unknown``).
    """
    wanted = normal_id(profile_id)
    profile = builtin_profiles().get(wanted) or (custom or {}).get(wanted)
    if profile is None:
        raise unknown(profile_id)
    return profile


def listed(custom: Iterable[CertificateProfile] = (), *, hidden: bool = False) -> list[CertificateProfile]:
    """Built-in then custom profiles; those that are not exposed only when ``hidden`` is set."""
    return [profile for profile in (*builtin_profiles().values(), *custom) if profile.exposed or hidden]


def groups() -> list[str]:
    """The groups of the built-in profiles, sorted."""
    return sorted({profile.group for profile in builtin_profiles().values()})


def unknown(profile_id: str) -> NotFound:
    """The refusal of an id that names no profile."""
    return NotFound(
        f'There is no certificate profile "{profile_id[:80]}".',
        code="profile-unknown",
        remedy="`intaglio profile list` shows the profiles.",
        target="profileId",
        extra={"step": "profile"},
    )
