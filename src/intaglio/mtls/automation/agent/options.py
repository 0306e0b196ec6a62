"""What an agent is told, checked before it does anything."""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from intaglio.core.errors import InvalidInput

_MEMORY = frozenset({"tmpfs", "ramfs"})
_LONGEST_TIMEOUT = 3600.0


@dataclass(frozen=True)
class Options:
    """``server`` is the URL of the enrolment listener, ``ca_file`` the CA (PEM) that vouches for it (None: the
    system's). ``identity`` is who it shall be: a name, ``kind:name`` or a SPIFFE ID; empty for whoever the proof says.

    What proves it the first time is ``token_file`` (a bootstrap token), or ``jwt_file`` with ``pipeline`` (an identity
    token, read anew each time). ``reload`` is run after each change, within ``reload_timeout`` seconds. ``lifetime`` is
    an ISO 8601 duration, empty for what the trust domain gives.
    """

    server: str
    out: Path
    ca_file: Path | None = None
    identity: str = ""
    token_file: Path | None = None
    jwt_file: Path | None = None
    pipeline: str = ""
    reload: tuple[str, ...] = ()
    reload_timeout: float = 60.0
    lifetime: str = ""
    dns_names: tuple[str, ...] = ()
    combined: bool = False
    in_memory: bool = False
    metrics: tuple[str, int] | None = None
    metrics_file: Path | None = None

    def check(self) -> None:
        """Raises InvalidInput naming the option that is wrong."""
        parts = urlsplit(self.server)
        if parts.scheme != "https" or not parts.hostname or parts.path.strip("/") or parts.query:
            raise InvalidInput(
                f'"{self.server}" is not the https URL of a server.',
                remedy="Write https://HOST:1443",
                target="--server",
            )
        if bool(self.jwt_file) != bool(self.pipeline):
            raise InvalidInput("An identity token counts by a pipeline: give both.", target="--pipeline")
        if self.jwt_file and self.token_file:
            raise InvalidInput("Give either a bootstrap token or an identity token.", target="--token-file")
        if not 0 < self.reload_timeout <= _LONGEST_TIMEOUT:
            raise InvalidInput(f"The time for a reload is 1 to {_LONGEST_TIMEOUT:.0f} seconds.")
        if self.in_memory and (kind := filesystem_of(self.out)) not in _MEMORY:
            raise InvalidInput(
                f"{self.out} is on {kind or 'a disk'}, not in memory.",
                code="not-in-memory",
                remedy="Use a folder below /run or /dev/shm, or a tmpfs of its own.",
                target="--memory",
            )


def command_of(text: str) -> tuple[str, ...]:
    """A command as its arguments; no shell ever sees it. Raises InvalidInput."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise InvalidInput(f"The command cannot be read: {error}.", target="--reload") from None


def loopback(text: str) -> tuple[str, int]:
    """``HOST:PORT`` of this host itself. Raises InvalidInput: metrics are for nobody else."""
    host, _, port = text.rpartition(":")
    try:
        number = int(port)
        if not ipaddress.ip_address(host.strip("[]")).is_loopback or not 0 <= number <= 65535:
            raise ValueError
    except ValueError:
        raise InvalidInput(
            f'"{text}" is no loopback address with a port.', remedy="Write 127.0.0.1:9750", target="--metrics"
        ) from None
    return host.strip("[]"), number


def filesystem_of(path: Path, mounts: Sequence[str] | None = None) -> str:
    """The kind of filesystem a path is on, or would be on. Source: proc_pid_mountinfo(5)."""
    if mounts is None:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    wanted = path.resolve()
    best, kind = -1, ""
    for line in mounts:
        fields, _, rest = line.partition(" - ")
        point = Path(fields.split(" ")[4].replace("\\040", " "))
        if (wanted == point or point in wanted.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), rest.split(" ")[0]
    return kind
