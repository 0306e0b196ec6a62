"""A load generator for ACME of its own process: whole orders, from newOrder to the certificate, as fast as they go.

Every order is for an address of its own in 127.0.0.0/8, proven by http-01 at a small server in this process. Run as
``python -m bench.acme_load`` with a JSON job on standard input; prints a JSON result.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import uvloop
from tests.support.acme_client import as_json, certificate_request, encoded, jws, new_key, public_jwk, thumbprint

_POLL = 0.03  # seconds between two looks at an authorization


@dataclass(frozen=True)
class Result:
    """``rate`` in orders per second; ``p99`` in milliseconds by operation; ``problems`` counts refusals by type."""

    rate: float
    orders: int
    p50: dict[str, float]
    p99: dict[str, float]
    problems: dict[str, int]


def run(*, directory: str, ca: str, port: int, connections: int, seconds: float) -> Result:
    """Order over ``connections``, each with an account of its own, for ``seconds`` after a tenth of it to warm up."""
    job = {"directory": directory, "ca": ca, "port": port, "connections": connections, "seconds": seconds}
    done = subprocess.run(
        [sys.executable, "-m", "bench.acme_load"], input=json.dumps(job), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"load generator failed: {done.stderr[-2000:]}")
    return Result(**json.loads(done.stdout))


@dataclass
class _Load:
    directory: dict[str, str]
    tls: ssl.SSLContext
    end: float = 0.0
    measure_from: float = 0.0
    orders: int = 0
    proofs: dict[str, str] = field(default_factory=dict)
    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    problems: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    addresses: int = 0

    def next_address(self) -> str:
        self.addresses += 1
        number = self.addresses + 256
        return f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


class _Client:
    """One kept-alive connection, one account."""

    def __init__(self, load: _Load) -> None:
        self.load, self.key, self.certified = load, new_key(), new_key()
        self.thumbprint, self.kid, self.nonce = thumbprint(self.key), "", ""

    async def start(self) -> None:
        where = urlsplit(self.load.directory["newNonce"])
        self.host = where.netloc
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", where.port, ssl=self.load.tls, server_hostname=where.hostname
        )
        await self._exchange("HEAD", self.load.directory["newNonce"], b"")
        _, headers, _ = await self.post("newAccount", self.load.directory["newAccount"], {}, jwk=public_jwk(self.key))
        self.kid = headers["location"]

    async def run(self) -> None:
        while time.perf_counter() < self.load.end:
            await self.order()

    async def order(self) -> None:
        address, load = self.load.next_address(), self.load
        wish = {"identifiers": [{"type": "ip", "value": address}]}
        _, _, order = await self.post("newOrder", load.directory["newOrder"], wish)
        _, _, authorization = await self.post("authorization", order["authorizations"][0])
        challenge = next(each for each in authorization["challenges"] if each["type"] == "http-01")
        load.proofs[challenge["token"]] = f"{challenge['token']}.{self.thumbprint}"
        await self.post("challenge", challenge["url"], {})
        while authorization["status"] == "pending":
            await asyncio.sleep(_POLL)
            _, _, authorization = await self.post("authorization", order["authorizations"][0])
        del load.proofs[challenge["token"]]
        request = certificate_request([], addresses=[address], key=self.certified)
        _, _, order = await self.post("finalize", order["finalize"], {"csr": encoded(request)})
        if order.get("status") != "valid":
            load.problems[str(order.get("type", order.get("status")))] += 1
            return
        status, _, _ = await self.post("certificate", order["certificate"])
        if status == 200 and time.perf_counter() >= load.measure_from:
            load.orders += 1

    async def post(
        self, operation: str, url: str, payload: Any = None, **header: Any
    ) -> tuple[int, dict[str, str], Any]:
        own = header or {"kid": self.kid}
        body = as_json(
            jws(self.key, {"url": url, "nonce": self.nonce, **own}, b"" if payload is None else as_json(payload))
        )
        started = time.perf_counter()
        answer = await self._exchange("POST", url, body)
        if started >= self.load.measure_from:
            self.load.latencies[operation].append((time.perf_counter() - started) * 1000)
        status, headers, content = answer
        document = json.loads(content) if "json" in headers.get("content-type", "") else content
        if status >= 400:
            self.load.problems[document["type"]] += 1
            raise RuntimeError(f"{operation}: {document}")
        return status, headers, document

    async def _exchange(self, method: str, url: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        where = urlsplit(url)
        head = f"{method} {where.path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/jose+json\r\n"
        self.writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:]) if value}
        length = 0 if method == "HEAD" else int(headers.get("content-length", 0))
        content = await self.reader.readexactly(length) if length else b""
        self.nonce = headers.get("replay-nonce", "")
        return int(lines[0].split()[1]), headers, content


async def _prove(load: _Load, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    token = head.split(b" ", 2)[1].rpartition(b"/")[2].decode()
    body = load.proofs.get(token, "").encode()
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    writer.close()


async def _main(job: dict[str, Any]) -> None:
    load = _Load(job["directory"], ssl.create_default_context(cafile=job["ca"]))
    await asyncio.start_server(lambda r, w: _prove(load, r, w), "0.0.0.0", job["port"], backlog=512)
    clients = [_Client(load) for _ in range(job["connections"])]
    for client in clients:
        await client.start()
    load.measure_from = time.perf_counter() + job["seconds"] / 10
    load.end = load.measure_from + job["seconds"]
    await asyncio.gather(*(client.run() for client in clients))
    percentiles = {name: sorted(values) for name, values in load.latencies.items()}
    result = {
        "rate": load.orders / (time.perf_counter() - load.measure_from),
        "orders": load.orders,
        "p50": {name: values[len(values) // 2] for name, values in percentiles.items()},
        "p99": {name: values[len(values) * 99 // 100] for name, values in percentiles.items()},
        "problems": dict(load.problems),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    uvloop.run(_main(json.loads(sys.stdin.read())))
