"""``DATA_DIR/runtime.json``: what runs on this data folder, where it listens, and whether it is ready.

The supervisor writes it, the command line and the tests read it. Ports asked for as 0 appear here as the kernel gave
them.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from intaglio.core.errors import Unavailable


@dataclass(frozen=True)
class Address:
    """One bound socket address."""

    host: str
    port: int


@dataclass(frozen=True)
class Bound:
    """A TCP listener as it was really bound; ``scheme`` is http or https."""

    scheme: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True)
class Runtime:
    """The running server: process ids by process name, listeners by name, path of the admin socket."""

    pid: int
    started_at: str
    ready: bool = False
    listeners: dict[str, Bound] = field(default_factory=dict)
    admin_socket: str = ""
    processes: dict[str, int] = field(default_factory=dict)

    def port(self, listener: str) -> int:
        """The port of a listener. Raises Unavailable when it is not served here."""
        try:
            return self.listeners[listener].addresses[0].port
        except (KeyError, IndexError):
            raise Unavailable(f'The listener "{listener}" does not run here.', code="listener-not-running") from None

    def with_(self, **changes: Any) -> Runtime:
        return replace(self, **changes)


def runtime_path(data_dir: Path) -> Path:
    return data_dir / "runtime.json"


def write_runtime(data_dir: Path, runtime: Runtime) -> None:
    """Replace the file atomically; a reader sees the old or the new state, never half of one."""
    path = runtime_path(data_dir)
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(asdict(runtime), indent=1) + "\n")
    os.replace(temporary, path)


def read_runtime(data_dir: Path) -> Runtime:
    """Raises Unavailable when no server runs on this folder (none was started, or it was killed)."""
    try:
        fields = json.loads(runtime_path(data_dir).read_text())
        listeners = {
            name: Bound(bound["scheme"], tuple(Address(**address) for address in bound["addresses"]))
            for name, bound in fields.pop("listeners").items()
        }
        runtime = Runtime(**fields, listeners=listeners)
        os.kill(runtime.pid, 0)
    except PermissionError:
        return runtime
    except (OSError, ValueError, TypeError, KeyError):
        raise Unavailable(
            f"No server runs on {data_dir}.", code="server-not-running", remedy="Start it with `intaglio serve`."
        ) from None
    return runtime


def remove_runtime(data_dir: Path) -> None:
    runtime_path(data_dir).unlink(missing_ok=True)
