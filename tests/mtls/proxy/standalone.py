"""A gateway as its own process, as an operator runs it."""

from __future__ import annotations

import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests.mtls.proxy.running import Pki
from tests.mtls.proxy.scripted import ScriptedService
from tests.support.product import eventually


@dataclass(frozen=True)
class Standalone:
    """``log`` is what the process says; ``service`` is behind it."""

    process: subprocess.Popen[bytes]
    pki: Pki
    service: ScriptedService
    log: Path

    @property
    def port(self) -> int:
        return int(self.said("accepts on 127.0.0.1:", ";"))

    def said(self, before: str, after: str) -> str:
        """What stands between two words of the log."""
        return self.log.read_text().partition(before)[2].partition(after)[0]

    def client(self, name: str | None = "orders") -> httpx.Client:
        """A client with a certificate of this name, or without one."""
        context = ssl.create_default_context(cafile=str(self.pki.folder / "server-ca.pem"))
        if name is not None:
            context.load_cert_chain(*self.pki.client(name).write(self.pki.folder, name))
        return httpx.Client(verify=context, timeout=30, base_url=f"https://localhost:{self.port}")


@contextmanager
def standalone(*arguments: str, identities: str = "spiffe://example/*") -> Iterator[Standalone]:
    """One that decides by files, once it accepts."""
    with tempfile.TemporaryDirectory(prefix="intaglio-gateway-") as name:
        folder, service = Path(name), ScriptedService({"/odd": b"no HTTP\r\n\r\n"})
        pki, log, config = Pki(folder), folder / "gateway.log", folder / "gateway.yaml"
        config.write_text(
            f"listen: ['127.0.0.1:0']\ncertificate: server.pem\nkey: server.key\nupstream: {{url: '{service.url}'}}\n"
            f"decisions: {{trust: trust.pem, crls: [list.crl], identities: ['{identities}']}}\n"
        )
        program = str(Path(sys.executable).with_name("intaglio"))
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [program, "mtls", "gateway", "run", "--config", str(config), *arguments],
                stdout=output, stderr=output, cwd=folder,
            )  # fmt: skip
        try:
            eventually(lambda: b"accepts on" in log.read_bytes() or process.poll() is not None, what=log.read_text)
            assert process.poll() is None, log.read_text()
            yield Standalone(process, pki, service, log)
        finally:
            process.terminate()
            process.wait()
            service.close()
