"""A trust domain in the running product, and agents of its identities as processes of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.product import Product, eventually

_COMMAND = Path(sys.executable).with_name("intaglio")


@dataclass(frozen=True)
class Domain:
    """A trust domain with CAs of its own; ``ca`` is the file of the CA that vouches for the listeners."""

    product: Product
    name: str
    ca: Path

    @classmethod
    def create(cls, product: Product, name: str, folder: Path) -> Domain:
        product.run("org", "create", name)
        product.run("mtls", "domain", "create", f"{name}.example", "--environment", name, "--org", name, "--new-ca")
        product.run("tls", "ca-certificate", "--out", folder / "platform-ca.pem")
        return cls(product, f"{name}.example", folder / "platform-ca.pem")

    @property
    def url(self) -> str:
        return self.product.url("enroll")

    def service(self, name: str, *options: str) -> str:
        """A registered service; how it is referred to."""
        self.product.run(
            "mtls", "identity", "add", "service", name, "--domain", self.name, "--team", "shop", *options
        )
        return f"service:{name}@{self.name}"

    def token(self, identity: str, file: Path, *options: str) -> Path:
        """A file with a bootstrap token."""
        file.write_text(self.product.json("mtls", "agent", "token", identity, *options)["token"])
        file.chmod(0o600)
        return file


@dataclass
class Agent:
    """A running agent; ``log`` has what it said, one JSON object per line."""

    out: Path
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def said(self, event: str) -> int:
        """How often it said something."""
        return sum(each["event"] == event for each in self.events)

    def renew(self) -> None:
        """Have it renew, and wait until it did all that belongs to it."""
        before = self.said("certificate in place")
        self.process.send_signal(signal.SIGHUP)
        eventually(lambda: self.said("certificate in place") > before, what=lambda: f"renewed: {self.log.read_text()}")

    @property
    def serial(self) -> str:
        found: str = json.loads((self.out / "current" / "about.json").read_text())["serial"]
        return found

    def resident(self) -> int:
        """Resident memory in octets."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the agent is gone")


def arguments(domain: Domain, out: Path, *options: str | Path) -> list[str]:
    """The command line of an agent."""
    command = [_COMMAND, "mtls", "agent", "run", "--server", domain.url, "--ca-file", domain.ca, "--out", out, *options]
    return [str(part) for part in command]


def once(domain: Domain, out: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    """Run an agent until its certificate is fresh."""
    return subprocess.run(
        arguments(domain, out, "--once", *options), env=domain.product.environment, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip


@contextmanager
def running(
    domain: Domain,
    out: Path,
    *options: str | Path,
    refused: int | None = None,
    launcher: Sequence[str] = (),
    **environment: str,
) -> Iterator[Agent]:
    """An agent in the background, ended in order; ``refused`` is the status with which it may end by itself,
    ``launcher`` a program that confines it."""
    log = out.with_suffix(".log")
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [*launcher, *arguments(domain, out, *options)],
            env=domain.product.environment | environment,
            stderr=file,
            stdout=file,
        )
    try:
        agent = Agent(out, log, process)
        eventually(lambda: agent.said("started") or process.poll() is not None, what="the agent starts")
        yield agent
        if refused is not None and process.poll() == refused:
            return
        assert process.poll() is None, log.read_text()
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
