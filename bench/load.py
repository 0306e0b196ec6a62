"""A load generator of its own process: keep-alive HTTP/1.1 over plain TCP or mutual TLS, closed loop, fixed requests.

It speaks just enough HTTP to count answers and time them, because it shares the two cores with the server it measures.
Run as ``python -m bench.load`` with a JSON job on standard input; prints a JSON result.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import uvloop


@dataclass(frozen=True)
class Result:
    """``rate`` in answers per second; latencies in milliseconds; ``statuses`` counts answers by HTTP status."""

    rate: float
    p50: float
    p99: float
    worst: float
    statuses: dict[str, int]
    octets: int


def run(
    *,
    host: str,
    port: int,
    requests: list[bytes],
    connections: int,
    seconds: float,
    tls: dict[str, str] | None = None,
) -> Result:
    """Send ``requests`` round-robin over ``connections`` for ``seconds`` (after a warm-up of a tenth of it).

    ``tls`` names ``ca``, ``cert``, ``key`` files and ``hostname``.
    """
    job = {
        "host": host, "port": port, "connections": connections, "seconds": seconds, "tls": tls,
        "requests": [base64.b64encode(r).decode() for r in requests],
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "bench.load"], input=json.dumps(job), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"load generator failed: {done.stderr[-2000:]}")
    return Result(**json.loads(done.stdout))


def http_request(method: str, path: str, host: str, body: bytes = b"", content_type: str = "") -> bytes:
    """The octets of one keep-alive request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n"
    if content_type:
        head += f"Content-Type: {content_type}\r\n"
    if body or method == "POST":
        head += f"Content-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class _Connection(asyncio.Protocol):
    def __init__(self, load: _Load, offset: int) -> None:
        self._load, self._next, self._buffer, self._sent_at = load, offset, b"", 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            self._buffer = buffer
            return
        head = buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 : head.find(b"\r", at) if head.find(b"\r", at) > 0 else end]) if at >= 0 else 0
        if len(buffer) < end + 4 + length:
            self._buffer = buffer
            return
        self._buffer = b""
        self._load.answered(buffer[9:12], time.perf_counter() - self._sent_at, len(buffer))
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost()

    def _send(self) -> None:
        if self._load.over:
            self._transport.close()
            return
        requests = self._load.requests
        self._next = (self._next + 1) % len(requests)
        self._sent_at = time.perf_counter()
        self._transport.write(requests[self._next])


class _Load:
    def __init__(self, requests: list[bytes], seconds: float) -> None:
        self.requests = requests
        self.start = time.perf_counter()
        self.measure_from = self.start + seconds / 10
        self.end = self.measure_from + seconds
        self.over = False
        self.finished = asyncio.Event()
        self.latencies: list[float] = []
        self.statuses: dict[str, int] = {}
        self.octets = 0
        self.drops = 0

    def answered(self, status: bytes, latency: float, octets: int) -> None:
        now = time.perf_counter()
        if now >= self.end:
            self.over = True
            self.finished.set()
        elif now >= self.measure_from:
            self.latencies.append(latency)
            name = status.decode()
            self.statuses[name] = self.statuses.get(name, 0) + 1
            self.octets += octets

    def lost(self) -> None:
        if not self.over:
            self.drops += 1


async def _generate(job: dict[str, Any]) -> Result:
    load = _Load([base64.b64decode(r) for r in job["requests"]], job["seconds"])
    context = None
    if job["tls"]:
        context = ssl.create_default_context(cafile=job["tls"]["ca"])
        if job["tls"].get("cert"):
            context.load_cert_chain(job["tls"]["cert"], job["tls"]["key"])
    loop = asyncio.get_running_loop()
    count = job["connections"]
    for number in range(count):
        await loop.create_connection(
            lambda n=number: _Connection(load, n * len(load.requests) // count),  # type: ignore[misc]
            job["host"],
            job["port"],
            ssl=context,
            server_hostname=job["tls"]["hostname"] if context else None,
        )
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(load.finished.wait(), job["seconds"] * 1.1 + 10)
    if not load.latencies:
        raise RuntimeError("no answer was received")
    ordered = sorted(load.latencies)
    if load.drops:
        load.statuses["dropped"] = load.drops
    return Result(
        rate=len(ordered) / job["seconds"],
        p50=ordered[len(ordered) // 2] * 1000,
        p99=ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1000,
        worst=ordered[-1] * 1000,
        statuses=load.statuses,
        octets=load.octets,
    )


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_generate(json.load(sys.stdin))).__dict__))
