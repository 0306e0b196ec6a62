"""Running a test server as its users do: as a process, found through its runtime file."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from tests.server import certificates
from tests.server.certificates import Credential

from intaglio.core.errors import Unavailable
from intaglio.core.secrets import MasterKey, write_master_key
from intaglio.server.runtime import Runtime, read_runtime

_HOUSE = Path(__file__).with_name("house.py")
PATIENCE = 60.0  # seconds after which something that should happen counts as not happening


def eventually(condition: Callable[[], Any], *, what: str) -> Any:
    """The first truthy value of ``condition``; fails when there is none for a long time."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"did not happen: {what}")


class House:
    """One test server on a data folder."""

    def __init__(self, folder: Path, database_url: str | None, **settings: str) -> None:
        self.folder = folder
        self.server_ca = certificates.authority("server authority")
        self.client_ca = certificates.authority("client authority")
        self.use_server_certificate(certificates.server(self.server_ca))
        (folder / "trusted").mkdir()
        self.trust("first", self.client_ca)
        write_master_key(folder / "master.key", MasterKey.generate())
        self.settings = {
            "DATA_DIR": str(folder),
            "HOSTNAME": "localhost",
            "TLS_CERTIFICATE": str(folder / "server.pem"),
            "TLS_KEY": str(folder / "server.key"),
            "WORKERS": "1",
            "ADMIN_SOCKET": str(folder / "admin.sock"),
            **{f"{name}__PORT": "0" for name in ("PUBLIC", "CONSOLE", "ENROLL", "GATEWAY", "ACCESS", "HEALTH")},
            **({"DATABASE_URL": database_url} if database_url else {}),
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "log"

    def launch(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start the process and do not wait."""
        own = {f"INTAGLIO_{name}": value for name, value in self.settings.items()}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("INTAGLIO_")}
        with open(self.log, "ab") as log:
            return subprocess.Popen([sys.executable, str(_HOUSE)], env={**inherited, **own, **environment}, stderr=log)

    def start(self, **environment: str) -> House:
        self.process = self.launch(**environment)
        eventually(self._ready_or_dead, what="the server gets ready")
        assert self.process.poll() is None, self.log.read_text()
        return self

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def destroy(self) -> None:
        """Leave nothing behind, whatever the test did."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def runtime(self) -> Runtime:
        return read_runtime(self.folder)

    @property
    def workers(self) -> list[int]:
        return [pid for name, pid in self.runtime.processes.items() if name.startswith("worker")]

    def use_server_certificate(self, credential: Credential) -> None:
        credential.write(self.folder, "server")

    def trust(self, name: str, client_ca: Credential) -> None:
        (self.folder / "trusted" / f"{name}.der").write_bytes(client_ca.der)

    def tls(self, credential: Credential | None = None) -> ssl.SSLContext:
        """A client's context that trusts this server, with a client certificate if given."""
        context = ssl.create_default_context(cadata=self.server_ca.pem.decode())
        if credential is not None:
            credential.load_into(context)
        return context

    def url(self, listener: str, path: str = "") -> str:
        scheme = self.runtime.listeners[listener].scheme
        return f"{scheme}://localhost:{self.runtime.port(listener)}{path}"

    def http(self, credential: Credential | None = None) -> httpx.Client:
        return httpx.Client(verify=self.tls(credential), timeout=PATIENCE, trust_env=False)

    def admin(self) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(self.folder / "admin.sock"))
        return httpx.Client(transport=transport, base_url="http://admin", timeout=PATIENCE)

    def connect(self, listener: str) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.runtime.port(listener)), timeout=PATIENCE)

    def _ready_or_dead(self) -> bool:
        assert self.process is not None
        try:
            return self.process.poll() is not None or self.runtime.ready
        except Unavailable:
            return False
