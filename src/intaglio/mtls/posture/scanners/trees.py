"""The files a scan looks at: a tree, what git tracks, all of git's history, the layers of a container image."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from intaglio.core import clock
from intaglio.core.errors import InvalidInput
from intaglio.mtls.posture.scanners.findings import Finding, Limits, Report

#: Folders of others' code and of caches; key scans look into the first two, too, where they are asked to.
SKIPPED_FOLDERS = frozenset(
    {".git", "node_modules", ".venv", "venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".tox",
     ".hypothesis", ".gradle", ".terraform"}
)  # fmt: skip
_HEAD = 8_192
_BATCH_OCTETS = 64 * 1024 * 1024  # of git objects in memory at a time, at most


@dataclass(frozen=True)
class Blob:
    """One file: where it is, what is in it, and its mode where it has one. ``skipped`` says why it was not read."""

    place: str
    content: bytes = field(repr=False)
    mode: int | None = None
    skipped: str | None = None


def scanned(blobs: Iterable[Blob], judge: Callable[[Blob], Iterable[Finding]], limits: Limits) -> Report:
    """Judge every file until a limit is reached; the report says so when it is."""
    report = Report()
    deadline = clock.monotonic() + limits.seconds
    for blob in blobs:
        if report.files >= limits.files or len(report.findings) >= limits.findings or clock.monotonic() > deadline:
            report.complete = False
            report.skipped.append((blob.place, "a limit of the scan was reached here"))
            break
        if blob.skipped is not None:
            report.skipped.append((blob.place, blob.skipped))
            continue
        report.files += 1
        report.findings += judge(blob)
    report.findings.sort(key=lambda each: (each.place, each.line or 0, each.rule.id))
    return report


def is_binary(content: bytes) -> bool:
    """Whether the file is no text, by git's own test: a NUL near its beginning."""
    return b"\x00" in content[:_HEAD]


def files(root: Path, limits: Limits, *, gitignore: bool = False) -> Iterator[Blob]:
    """The regular files below ``root``, in order; links are not followed.

    Raises InvalidInput (``path-unreadable``, ``not-a-repository``).
    """
    if not root.exists():
        raise InvalidInput(f"{root} does not exist.", code="path-unreadable")
    if root.is_file():
        yield _read(root, root.name, limits)
        return
    for path in _tracked(root) if gitignore else _walk(root):
        yield _read(path, path.relative_to(root).as_posix(), limits)


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root, followlinks=False):
        folders[:] = sorted(each for each in folders if each not in SKIPPED_FOLDERS)
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _tracked(root: Path) -> Iterator[Path]:
    """What git tracks or would track below ``root``."""
    listed = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in sorted(set(listed.split(b"\x00"))):
        path = root / os.fsdecode(name)
        if name and path.is_file() and not path.is_symlink():
            yield path


def _read(path: Path, place: str, limits: Limits) -> Blob:
    try:
        status = path.stat()
        if status.st_size > limits.octets:
            return Blob(place, b"", skipped=f"larger than {limits.octets} octets")
        return Blob(place, path.read_bytes(), status.st_mode & 0o7777)
    except OSError as error:
        return Blob(place, b"", skipped=error.strerror or "unreadable")


# ---- git history -----------------------------------------------------------------------------------------------------


def git(root: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """Output of git in ``root``; it runs no hook and fetches nothing, whatever the repository's own settings say.

    Raises InvalidInput (``not-a-repository``).
    """
    command = ["git", "-c", "core.fsmonitor=false", "-c", "protocol.allow=never", "-C", str(root), *arguments]
    own = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
    environment = {**os.environ, **own}
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, check=False, env=environment, timeout=300)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        raise InvalidInput("git does not answer.", code="not-a-repository", remedy="Install git.") from None
    if done.returncode != 0:
        why = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise InvalidInput(
            f"{root} cannot be read as a git repository{': ' + why[0][:200] if why else ''}.", code="not-a-repository"
        )
    return done.stdout


def history(root: Path, limits: Limits) -> Iterator[Blob]:
    """Every version of every file in the history of all branches and tags, once."""
    names: dict[bytes, bytes] = {}
    for line in git(root, "rev-list", "--objects", "--all").splitlines():
        identifier, _, name = line.partition(b" ")
        if name:
            names.setdefault(identifier, name)
    sizes = git(root, "cat-file", "--batch-check", stdin=b"\n".join(names) + b"\n")
    small = []
    for line in sizes.splitlines():
        identifier, kind, size = (*line.split(b" "), b"", b"")[:3]
        if kind != b"blob":
            continue
        place = f"{identifier.decode()[:12]}:{os.fsdecode(names[identifier])}"
        if int(size) > limits.octets:
            yield Blob(place, b"", skipped=f"larger than {limits.octets} octets")
        else:
            small.append((identifier, place))
    per_call = max(1, _BATCH_OCTETS // limits.octets)
    for start in range(0, len(small), per_call):
        yield from _contents(root, small[start : start + per_call])


def _contents(root: Path, wanted: list[tuple[bytes, str]]) -> Iterator[Blob]:
    output = git(root, "cat-file", "--batch", stdin=b"\n".join(each for each, _ in wanted) + b"\n")
    position = 0
    for _, place in wanted:
        end = output.index(b"\n", position)
        size = int(output[position:end].split(b" ")[2])
        yield Blob(place, output[end + 1 : end + 1 + size])
        position = end + size + 2


# ---- container images ------------------------------------------------------------------------------------------------

_MOST_METADATA = 8 * 1024 * 1024
_MOST_LAYERS = 500
_MOST_UNPACKED = 16 << 30  # octets of one layer, so that a small archive cannot keep the scan busy for ever


def image(path: Path, limits: Limits) -> Iterator[Blob]:
    """The files in the layers of an image: an archive of ``docker save``, or an OCI layout (folder or archive).

    Configuration objects are told as files, too: environment variables are in them. Files that a later layer deletes
    are still in the image, and are looked at. Raises InvalidInput (``image-unreadable``).
    """
    if path.is_dir():
        for each in sorted((path / "blobs").rglob("*")) if (path / "blobs").is_dir() else ():
            if each.is_file() and not each.is_symlink():
                with open(each, "rb") as file:
                    yield from _layer_or_configuration(each.name[:12], file, limits)
        return
    try:
        with tarfile.open(path, "r:*") as archive:
            for count, member in enumerate(archive):
                part = archive.extractfile(member) if member.isfile() else None
                if part is not None and count < _MOST_LAYERS * 4:
                    yield from _layer_or_configuration(member.name, part, limits)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InvalidInput(f"{path} is no container image: {error}.", code="image-unreadable") from None


def _layer_or_configuration(name: str, file: IO[bytes], limits: Limits) -> Iterator[Blob]:
    head = file.read(512)
    if head[:1] in b"{[" and head:
        content = head + file.read(_MOST_METADATA)
        if _is_json(content):
            yield Blob(f"{name} (configuration)", content)
        return
    stream = io.BufferedReader(_Joined(head, file))
    try:
        with tarfile.open(fileobj=stream, mode="r|*") as layer:
            unpacked = 0
            for member in layer:
                unpacked += member.size
                if unpacked > _MOST_UNPACKED:
                    yield Blob(f"{name[:32]}:/{member.name}", b"", skipped="the layer is too large")
                    return
                yield from _member(name, layer, member, limits)
    except (tarfile.TarError, OSError, EOFError):
        return


def _member(layer: str, archive: tarfile.TarFile, member: tarfile.TarInfo, limits: Limits) -> Iterator[Blob]:
    if not member.isfile():
        return
    place = f"{layer[:32]}:/{member.name.lstrip('./')}"
    if member.size > limits.octets:
        yield Blob(place, b"", skipped=f"larger than {limits.octets} octets")
        return
    content = archive.extractfile(member)
    if content is not None:
        yield Blob(place, content.read(limits.octets + 1), member.mode & 0o7777)


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


class _Joined(io.RawIOBase):
    """What was read already, and then the rest."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        content = content or self._rest.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)
