"""Which PKCS #11 libraries may be loaded, and from where.

A library is code that runs in our processes, so its path never comes from an interface: only from the boot settings, or
from the place where a vendor's package puts it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from intaglio.core.errors import NotFound, Refused
from intaglio.core.settings import Settings

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_CKNFAST = re.compile(r"^\s*(CKNFAST_[A-Z0-9_]{1,40})\s*=\s*([^\s#]{0,200})", re.MULTILINE)
_LONGEST_CKNFASTRC = 65536


@dataclass(frozen=True)
class Preset:
    """A product we know: where its package puts the library, and which variable leads it to its configuration.

    ``folder`` is the variable's value below the folder that ``intaglio hsm import`` fills.
    """

    name: str
    title: str
    paths: tuple[str, ...]
    variable: str = ""
    folder: str = ""


_LIB = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")


def _everywhere(*names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for folder in _LIB for name in names)


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("softhsm2", "SoftHSM 2", _everywhere("softhsm/libsofthsm2.so", "libsofthsm2.so"), "SOFTHSM2_CONF"),
        Preset(
            "nshield", "Entrust nShield", ("/opt/nfast/toolkits/pkcs11/libcknfast.so",), "NFAST_KMDATA", "kmdata"
        ),
        Preset(
            "luna",
            "Thales Luna, Data Protection on Demand",
            (
                "/usr/safenet/lunaclient/lib/libCryptoki2_64.so",
                "/opt/safenet/lunaclient/lib/libCryptoki2_64.so",
                "/usr/lunasa/lib/libCryptoki2_64.so",
            ),
            "ChrystokiConfigurationPath",
            ".",
        ),
        Preset("yubihsm2", "YubiHSM 2", _everywhere("pkcs11/yubihsm_pkcs11.so", "yubihsm_pkcs11.so"),
               "YUBIHSM_PKCS11_CONF"),
        Preset("cloudhsm", "AWS CloudHSM", ("/opt/cloudhsm/lib/libcloudhsm_pkcs11.so",)),
        Preset(
            "opensc", "OpenSC: Nitrokey HSM, smart cards", _everywhere("pkcs11/opensc-pkcs11.so", "opensc-pkcs11.so"),
            "OPENSC_CONF",
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Module:
    """A library that may be loaded. ``environment`` is set before it is; ``origin`` is settings or preset."""

    name: str
    path: Path
    origin: str
    environment: Mapping[str, str] = field(default_factory=dict)
    title: str = ""


def modules(settings: Settings) -> dict[str, Module]:
    """Every library that may be loaded, by name: those of the settings, then the presets that are installed.

    Nothing is checked here but that a preset's file exists; :func:`require` checks what is about to be loaded.
    """
    found = {
        name: Module(name, Path(path), "settings", _environment(settings, name), _title(name))
        for name, path in settings.pkcs11_modules.items()
        if _NAME.fullmatch(name)
    }
    for name, preset in PRESETS.items():
        path = next((Path(each) for each in preset.paths if Path(each).is_file()), None)
        if name not in found and path is not None:
            found[name] = Module(name, path, "preset", _environment(settings, name), preset.title)
    return found


def require(settings: Settings, name: str) -> Module:
    """The library of this name, found fit to be loaded.

    Raises NotFound (``hsm-module-unknown``), Refused (``hsm-module-unsafe``) for a file that others than root and the
    account of this process could have put there.
    """
    known = modules(settings)
    if name not in known:
        names = ", ".join(sorted(known)) or "none yet"
        raise NotFound(
            f'There is no PKCS #11 module "{name[:40]}".',
            code="hsm-module-unknown",
            remedy=f"Known: {names}. Name another one in the settings of the server: "
            "INTAGLIO_PKCS11_MODULES=name=/path/to/library.so.",
            target="module",
        )
    if (fault := unsafe(known[name].path)) is not None:
        raise Refused(
            f"The PKCS #11 module {known[name].path} is not loaded: {fault}.",
            code="hsm-module-unsafe",
            remedy="Let root own the library and its folders, and nobody else write to them.",
            target="module",
        )
    return known[name]


def unsafe(path: Path) -> str | None:
    """Why a library must not be loaded, or None: it and every folder above it belong to root or to this account, and
    nobody else may write there (folders with the sticky bit, such as /tmp, are fine)."""
    if not path.is_absolute():
        return "its path is not absolute"
    try:
        real = path.resolve(strict=True)
        if not stat.S_ISREG(real.stat().st_mode):
            return "it is not a file"
        for each in (real, *real.parents):
            if (fault := _writable(each)) is not None:
                return fault
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return None


def _writable(path: Path) -> str | None:
    found = path.stat()
    if found.st_uid not in (0, os.geteuid()):
        return f"{path} belongs to another account"
    others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    return f"others may write to {path}" if others and not sticky else None


def imported_folder(settings: Settings, preset: str) -> Path:
    """Where the client configuration of a product is kept once it was imported."""
    return settings.data_dir / "hsm" / preset


def _environment(settings: Settings, name: str) -> dict[str, str]:
    """What the settings say for this module; for a product whose configuration was imported, where that is."""
    found = {}
    preset = PRESETS.get(name)
    if preset is not None and preset.folder and (place := imported_folder(settings, name)).is_dir():
        found[preset.variable] = str((place / preset.folder).resolve())
        found |= _cknfastrc(place / preset.folder / "cknfastrc")
    for key, value in settings.pkcs11_environment.items():
        module, colon, variable = key.rpartition(":")
        if not colon or module == name:
            found[variable] = value
    return found


def _cknfastrc(path: Path) -> dict[str, str]:
    """Variables of nShield's client that were imported with its Security World, such as CKNFAST_LOADSHARING=1."""
    if not path.is_file():
        return {}
    text = path.read_text(errors="replace")[:_LONGEST_CKNFASTRC]
    return dict(match.groups() for match in _CKNFAST.finditer(text))  # type: ignore[misc]


def _title(name: str) -> str:
    return PRESETS[name].title if name in PRESETS else ""


def as_rows(settings: Settings) -> Sequence[Mapping[str, object]]:
    """Every module for people: with what hinders its use, if anything does."""
    return [
        {
            "name": each.name,
            "title": each.title,
            "path": str(each.path),
            "origin": each.origin,
            "variables": sorted(each.environment),
            "fault": unsafe(each.path),
        }
        for each in modules(settings).values()
    ]
