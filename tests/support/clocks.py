"""A chronyd of a test's own: it keeps no clock, and is synchronized to nothing but itself, as told."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from tests.support.product import PATIENCE, eventually
from tests.support.programs import program


class Chronyd:
    """A chronyd that answers questions about a clock it does not touch.

    ``synchronized`` false: it waits for a server that never answers, and says that it does not know the time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        folder.chmod(0o750)  # chronyd refuses a socket in a folder that others may enter
        self.socket = folder / "chronyd.sock"
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Its command port."""
        return f"127.0.0.1:{self.port}"

    def start(self, *, synchronized: bool = True) -> None:
        """Run it; returns when it answers."""
        configuration = self.folder / "chrony.conf"
        configuration.write_text(
            f"cmdport {self.port}\nbindcmdaddress 127.0.0.1\nbindcmdaddress {self.socket}\nport 0\n"
            f"pidfile {self.folder / 'chronyd.pid'}\n"
            + ("local stratum 8\n" if synchronized else f"server 127.0.0.1 port {_free_port()}\n")
        )
        account = ("-u", "root") if os.geteuid() == 0 else ("-U",)
        self._process = subprocess.Popen(
            [program("chronyd"), "-x", "-d", *account, "-f", configuration],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(self._answers, what="chronyd answers")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)
            self._process = None

    def _answers(self) -> bool:
        done = subprocess.run(
            [program("chronyc"), "-h", "127.0.0.1", "-p", str(self.port), "tracking"], capture_output=True, check=False
        )
        return done.returncode == 0


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
        return port
