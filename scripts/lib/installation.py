"""An installation of Intaglio in a temporary folder: its settings, its ports, and the environment to reach it in."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

DEFAULT_PORTS = {"public": 8080, "console": 8443, "enroll": 1443, "gateway": 8444, "access": 8181, "health": 9444}

_ROOT = Path(__file__).resolve().parents[2]
_COMMANDS = _ROOT / ".venv" / "bin"
_LONGEST_FOLDER = 60  # characters: names of Unix sockets below it must stay under 108
_FOREIGN = ("INTAGLIO_", "CURL_", "PYTHON")  # variables that would lead our commands somewhere else


class Installation:
    """The data folder ``folder/data``, listeners on this machine's own address only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.ports = dict(DEFAULT_PORTS)
        self.data.mkdir()
        self.data.chmod(0o711)  # started by root, the embedded database runs as another account and passes through
        self._write_settings()

    def choose_ports(self) -> dict[int, int]:
        """Take the default ports, or free ones in their place. Returns what took the place of which."""
        for name, port in DEFAULT_PORTS.items():
            self.ports[name] = port if _is_free(port) else _free_port()
        self._write_settings()
        return {port: self.ports[name] for name, port in DEFAULT_PORTS.items() if self.ports[name] != port}

    def url(self, listener: str) -> str:
        """Scheme, host and port of a listener."""
        scheme = "https" if listener in ("console", "enroll", "gateway") else "http"
        return f"{scheme}://localhost:{self.ports[listener]}"

    def is_ready(self) -> bool:
        """Whether the server said so."""
        try:
            return bool(json.loads((self.data / "runtime.json").read_text())["ready"])
        except FileNotFoundError:
            return False

    def environment(self) -> dict[str, str]:
        """The environment of commands that work on this installation."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        path = f"{_COMMANDS}:{os.environ.get('PATH', os.defpath)}"
        # A proxy must not come between programs of this machine.
        local = {"NO_PROXY": "localhost,127.0.0.1", "no_proxy": "localhost,127.0.0.1"}
        return {**kept, **local, "PATH": path, "INTAGLIO_DATA_DIR": str(self.data)}

    def write_environment(self, **variables: str) -> Path:
        """A file to be sourced by the shell of another terminal."""
        lines = [
            f"cd {shlex.quote(str(self.folder))}",
            f"export INTAGLIO_DATA_DIR={shlex.quote(str(self.data))}",
            f"export PATH={shlex.quote(str(_COMMANDS))}:$PATH",
            *(f"{name}={shlex.quote(value)}" for name, value in variables.items()),
        ]
        path = self.folder / "env"
        path.write_text("\n".join(lines) + "\n")
        return path

    def _write_settings(self) -> None:
        lines = ['hostname = "localhost"']
        for name, port in self.ports.items():
            lines += ["", f"[{name}]", 'host = "127.0.0.1"', f"port = {port}"]
        (self.data / "intaglio.toml").write_text("\n".join(lines) + "\n")


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder below TMPDIR that only its owner can list; it goes with the block, unless :func:`keep` was called."""
    os.umask(0o077)
    wanted = os.environ.get("TMPDIR", "/tmp")
    base = wanted if len(wanted) <= _LONGEST_FOLDER and os.access(wanted, os.W_OK | os.X_OK) else "/tmp"
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base)).resolve()
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        if not _kept(folder).exists():
            shutil.rmtree(folder, ignore_errors=True)


def keep(folder: Path) -> None:
    """Leave a temporary folder behind for whoever looks for the reason of a failure."""
    _kept(folder).touch()


def _kept(folder: Path) -> Path:
    return folder / "kept"


def _is_free(port: int) -> bool:
    """Whether neither spelling of this machine's own address is taken at that port."""
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        except OSError:
            if family == socket.AF_INET or _has_ipv6():
                return False
    return True


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
