"""A name server of a test's own: BIND with zones that can be changed by dynamic update, signed if asked for."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.product import PATIENCE, eventually
from tests.support.programs import program, run

KEY_NAME = "tests"
_SECRET = base64.b64encode(hashlib.sha256(b"a key that protects nothing").digest()).decode()


class Bind:
    """``zones`` maps names of zones to records below SOA and NS, one a line, in master file format.

    Updates are signed with the TSIG key in the file :attr:`key_file` (hmac-sha256). Zones in ``signed`` are signed, and
    :meth:`trust_anchor` tells by which key. A server with ``forwards`` (zone -> port of another one) asks there, and
    vouches for what is signed under ``anchors``.
    """

    def __init__(
        self,
        folder: Path,
        zones: Mapping[str, str] | None = None,
        *,
        signed: Sequence[str] = (),
        forwards: Mapping[str, int] | None = None,
        anchors: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.port = _free_port()
        self.key_file = folder / "tests.key"
        self._zones = dict(zones or {})
        self._signed = frozenset(signed)
        self._forwards = dict(forwards or {})
        self._anchors = list(anchors)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it answers, as settings name DNS servers."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Run it; returns when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        key = f'key "{KEY_NAME}" {{ algorithm hmac-sha256; secret "{_SECRET}"; }};\n'
        self.key_file.write_text(key)
        for zone, records in self._zones.items():
            head = f"$TTL 1\n@ IN SOA ns.{zone}. admin.{zone}. 1 3600 600 86400 1\n@ IN NS ns.{zone}.\n"
            (self.folder / f"{zone}.zone").write_text(f"{head}ns IN A 127.0.0.1\n{records}\n")
        (self.folder / "named.conf").write_text(key + self._configuration())
        account = ("-u", "root") if os.geteuid() == 0 else ()
        self._process = subprocess.Popen(
            [program("named"), "-g", *account, "-c", self.folder / "named.conf"],
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "named.log").open("ab"),
            cwd=self.folder,
        )
        eventually(self._answers, what="BIND answers")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)
            self._process = None

    def update(self, zone: str, *lines: str) -> None:
        """Dynamic update: lines like ``add _acme-challenge.example.test. 1 TXT "value"`` or ``delete name. TXT``."""
        commands = [f"server 127.0.0.1 {self.port}", f"zone {zone}.", *(f"update {one}" for one in lines), "send", ""]
        run("nsupdate", "-k", self.key_file, stdin="\n".join(commands).encode())

    def trust_anchor(self, zone: str) -> str:
        """What a validating server's ``trust-anchors`` say of a signed zone."""
        eventually(lambda: "RRSIG" in self._dig(zone, "DNSKEY", "+dnssec"), what=f"{zone} is signed")
        keys = [line.split() for line in self._dig(zone, "DNSKEY").splitlines() if "DNSKEY" in line]
        flags, protocol, algorithm, *key = next(words[4:] for words in keys if words[4] == "257")
        return f'"{zone}." static-key {flags} {protocol} {algorithm} "{"".join(key)}";'

    def _dig(self, name: str, kind: str, *options: str) -> str:
        return run("dig", "@127.0.0.1", "-p", str(self.port), name, kind, "+noall", "+answer", "+time=2", *options)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(0.5)
            # version.bind in class CHAOS: what a server answers without asking another one.
            question = b"\x12\x34\0\0\0\1\0\0\0\0\0\0\7version\4bind\0\0\x10\0\3"
            try:
                asking.sendto(question, ("127.0.0.1", self.port))
                return bool(asking.recv(512))
            except OSError:
                return False

    def _configuration(self) -> str:
        zones = "".join(self._zone(zone) for zone in self._zones)
        zones += "".join(
            f'zone "{zone}" {{ type forward; forward only; forwarders {{ 127.0.0.1 port {port}; }}; }};\n'
            for zone, port in self._forwards.items()
        )
        if self._anchors:
            zones += f"trust-anchors {{ {' '.join(self._anchors)} }};\n"
        return f"""options {{
    directory "{self.folder}";
    listen-on port {self.port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    pid-file none;
    session-keyfile none;
    recursion {"yes" if self._forwards else "no"};
    dnssec-validation {"yes" if self._anchors else "no"};
    empty-zones-enable no;
    max-cache-ttl 1;
    max-ncache-ttl 1;
}};
controls {{ }};
{zones}"""

    def _zone(self, zone: str) -> str:
        policy = "dnssec-policy default; inline-signing yes;" if zone in self._signed else ""
        return (
            f'zone "{zone}" {{ type primary; file "{zone}.zone"; {policy}'
            f' allow-update {{ key "{KEY_NAME}"; }}; }};\n'
        )


def _free_port() -> int:
    """A port that is free for UDP and TCP."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.bind(("127.0.0.1", 0))
            port: int = datagrams.getsockname()[1]
            with socket.socket() as stream:
                try:
                    stream.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return port
