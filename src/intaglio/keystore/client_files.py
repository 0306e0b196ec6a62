"""Client configuration of hardware security modules, kept under the data folder: nShield's Security World, Luna's
certificates and Chrystoki.conf.

A library is led there by its environment (:mod:`intaglio.keystore.pkcs11.modules`). What is taken over replaces what
was there, as a whole or not at all. There is no limit to its size.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from intaglio.core.errors import InvalidInput, NotFound, StateConflict
from intaglio.core.settings import Settings
from intaglio.keystore.pkcs11.modules import imported_folder

#: Settings of Chrystoki.conf that name files of the client, and the folder of the certificate directory they are in.
_CHRYSTOKI_FILES = {"ClientPrivKeyFile": "client", "ClientCertFile": "client", "ServerCAFile": "server"}
_CHRYSTOKI_LINE = re.compile(r"^(\s*)(\w+)(\s*=\s*)([^;\n]*?)(\s*;.*)$", re.MULTILINE)
_MOST_FILES = 100_000


@dataclass(frozen=True)
class Imported:
    """What was taken over: how many files, and what somebody should look at."""

    preset: str
    folder: Path
    files: int
    warnings: tuple[str, ...] = ()


def import_nshield(settings: Settings, source: Path) -> Imported:
    """Take over a Security World: a ``kmdata`` folder, a folder with one in it, or its ``tar`` or ``tar.gz``.

    Raises InvalidInput (``hsm-files-unsuitable``) when it is none, or holds links or names that lead elsewhere.
    """
    with _replacing(imported_folder(settings, "nshield")) as fresh:
        if source.is_dir():
            _copy(source, fresh / "source")
        else:
            _untar(source, fresh / "source")
        found = next((each for each in _kmdata_candidates(fresh / "source") if (each / "local").is_dir()), None)
        if found is None:
            raise _unsuitable(f"{source} holds no kmdata folder with a folder local in it.")
        found.rename(fresh / "kmdata")
        shutil.rmtree(fresh / "source", ignore_errors=True)
        world = (fresh / "kmdata/local/world").is_file()
        warnings = () if world else ("There is no Security World (local/world) in it.",)
        return Imported("nshield", imported_folder(settings, "nshield"), _protect(fresh), warnings)


def import_luna_package(settings: Settings, package: Path) -> Imported:
    """Take over the client package (zip) of a Data Protection on Demand service. Raises InvalidInput."""
    with _replacing(imported_folder(settings, "luna")) as fresh:
        _unzip(package, fresh)
        configuration = fresh / "Chrystoki.conf"
        if not configuration.is_file():
            raise _unsuitable(f"{package} holds no Chrystoki.conf.")
        return Imported("luna", imported_folder(settings, "luna"), _protect(fresh))


def import_luna(settings: Settings, certificates: Path, configuration: Path) -> Imported:
    """Take over a Luna client: its certificate folder (``client/``, ``server/``) and its Chrystoki.conf.

    The three paths in the configuration that name files of the client are pointed at the copies; a warning says when
    what they named is not among them. No other path is changed. Raises InvalidInput.
    """
    target = imported_folder(settings, "luna")
    with _replacing(target) as fresh:
        for part in ("client", "server"):
            if not (certificates / part).is_dir():
                raise _unsuitable(f"{certificates} has no folder {part}.")
        _copy(certificates, fresh / "cert")
        text, warnings = _pointed(_read(configuration), fresh / "cert", target / "cert")
        (fresh / "Chrystoki.conf").write_text(text)
        return Imported("luna", target, _protect(fresh), tuple(warnings))


def export(settings: Settings, preset: str, out: Path, *, compressed: bool = False) -> Path:
    """Write what was taken over to a folder, for another installation to take over; returns what was written.

    Raises NotFound (``hsm-files-missing``), StateConflict (``file-exists``).
    """
    source = imported_folder(settings, preset)
    if not source.is_dir():
        raise NotFound(
            f"No client configuration of {preset} was imported.",
            code="hsm-files-missing",
            remedy=f"Import it first: intaglio hsm import --preset {preset}.",
        )
    inner = source / "kmdata" if preset == "nshield" else source
    name = "kmdata" if preset == "nshield" else preset
    target = out / (f"{name}.tar.gz" if compressed else name)
    if target.exists():
        raise StateConflict(f"{target} exists.", code="file-exists", remedy="Choose another folder.")
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    if compressed:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            archive.add(inner, arcname=name)
    else:
        _copy(inner, target)
    return target


# ---- steps -----------------------------------------------------------------------------------------------------------


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A fresh folder that takes the place of ``target`` when the block ends well."""
    fresh, old = target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():
        old.rename(target)  # an import was broken off just between the two steps below
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(mode=0o700, parents=True)
    _own_like(target.parent, target.parent.parent)
    try:
        yield fresh
        if target.exists():
            target.rename(old)
        try:
            fresh.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    finally:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)


def _kmdata_candidates(folder: Path) -> Iterator[Path]:
    yield folder
    yield folder / "kmdata"
    for each in sorted(folder.iterdir()):
        yield each / "kmdata"


def _copy(source: Path, target: Path) -> None:
    """Regular files and folders only: a link could lead anywhere once it is somewhere else."""
    for count, each in enumerate(source.rglob("*")):
        if count > _MOST_FILES:
            raise _unsuitable(f"{source} holds more than {_MOST_FILES} files.")
        if each.is_symlink() or not (each.is_dir() or each.is_file()):
            raise _unsuitable(f"{each} is neither a file nor a folder.")
    try:
        shutil.copytree(source, target)
    except OSError as error:
        raise _unsuitable(f"{source} cannot be copied: {error}.") from None


def _untar(source: Path, target: Path) -> None:
    target.mkdir()
    try:
        with tarfile.open(source) as archive:
            for count, member in enumerate(archive):
                if count > _MOST_FILES:
                    raise _unsuitable(f"{source} holds more than {_MOST_FILES} files.")
                if not (member.isreg() or member.isdir()) or not _stays_below(member.name):
                    raise _unsuitable(f"{source} holds {member.name!r}, which is no file below it.")
                archive.extract(member, target, set_attrs=False, filter="data")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise _unsuitable(f"{source} is no readable tar file: {error}.") from None


def _unzip(source: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()
            if len(members) > _MOST_FILES:
                raise _unsuitable(f"{source} holds more than {_MOST_FILES} files.")
            for member in members:
                if stat.S_ISLNK(member.external_attr >> 16) or not _stays_below(member.filename):
                    raise _unsuitable(f"{source} holds {member.filename!r}, which is no file below it.")
                archive.extract(member, target)
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
        raise _unsuitable(f"{source} is no readable zip file: {error}.") from None


def _stays_below(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return not path.is_absolute() and ".." not in path.parts


def _pointed(text: str, copies: Path, final: Path) -> tuple[str, list[str]]:
    """Chrystoki.conf with the client's files where they are from now on, and warnings."""
    warnings, seen = [], set()

    def replaced(match: re.Match[str]) -> str:
        indent, name, equals, value, rest = match.groups()
        if name not in _CHRYSTOKI_FILES:
            return match[0]
        seen.add(name)
        file = Path(_CHRYSTOKI_FILES[name]) / PurePosixPath(value.replace("\\", "/")).name
        if not (copies / file).is_file():
            warnings.append(f"{name} names {value}, but there is no {file} in the certificate folder.")
            return match[0]
        return f"{indent}{name}{equals}{final / file}{rest}"

    pointed = _CHRYSTOKI_LINE.sub(replaced, text)
    warnings += [f"Chrystoki.conf has no setting {name}." for name in _CHRYSTOKI_FILES if name not in seen]
    return pointed, warnings


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise _unsuitable(f"{path} cannot be read: {error}.") from None


def _protect(folder: Path) -> int:
    """Files for their owner only, who is the one of the data folder; returns how many files there are."""
    count = 0
    for each in (folder, *folder.rglob("*")):
        each.chmod(0o700 if each.is_dir() else 0o600)
        _own_like(each, folder.parent.parent)
        count += each.is_file()
    return count


def _own_like(path: Path, model: Path) -> None:
    if os.geteuid() == 0:  # a server that runs as an account of its own must be able to read it
        owner = model.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _unsuitable(detail: str) -> InvalidInput:
    return InvalidInput(detail, code="hsm-files-unsuitable", remedy="See the manual of the client software.")
