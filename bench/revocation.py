"""``revocation``: from the answer to a revocation until its certificate is refused, everywhere it could be used."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench import access_house
from bench.figure import Figure
from bench.installation import Installation
from intaglio.mtls.scenarios.credentials import new_key, new_request

ROUNDS = 20
TARGET = 2.0  # seconds
_PATIENCE = 30.0


def measure() -> Figure:
    """20 certificates in turn: revoke over the API, then ask the decision endpoint and the gateway of two workers until
    each refuses, and wait until the connection that was open is cut."""
    figure = Figure("revocation")
    with access_house.house() as product:
        gateway = _with_gateway(product)
        measured: dict[str, list[float]] = {"decision endpoint": [], "gateway": [], "open connection": []}
        for number in range(ROUNDS):
            for name, seconds in _round(product, gateway, number).items():
                measured[name].append(seconds)
    for name, times in measured.items():
        median = f"median {sorted(times)[len(times) // 2]:.3f} s"
        figure.add(f"{name}, slowest of {ROUNDS}", max(times), "s", "<", TARGET, median)
    figure.measured = {name: [round(each, 4) for each in times] for name, times in measured.items()}
    return figure


def _round(product: Installation, gateway: int, number: int) -> dict[str, float]:
    serial, certificate = _issue(product, f"victim-{number}")
    context = ssl.create_default_context(cadata=product.run("tls", "ca-certificate"))
    context.load_cert_chain(product.work / "victim.pem", product.work / "victim.key")
    token = (product.work / access_house.TOKEN).read_text().strip()
    with (
        httpx.Client(headers={"authorization": f"Bearer {token}"}) as endpoint,
        _open(gateway, context) as connection,
    ):
        question = {"certificate": certificate, "source_ip": "127.0.0.1", "method": "GET", "path": "/pay/1"}
        decide = product.url("access", "/access/v1/decide").replace("localhost", "127.0.0.1")

        def decided() -> bool:
            return bool(endpoint.post(decide, json=question).json()["allowed"])

        def passes() -> bool:
            with _open(gateway, context) as fresh:
                return _answered(fresh)

        assert decided(), "a good certificate is refused by the decision endpoint"
        assert passes(), "a good certificate is refused by the gateway"
        assert _answered(connection)
        _call(product, "/mtls/v1/revocations", {"serial": serial, "reason": "keyCompromise"})
        begun = time.perf_counter()
        return {
            "decision endpoint": _until(lambda: not decided(), begun),
            "gateway": _until(lambda: not passes(), begun),
            "open connection": _until_cut(connection, begun),
        }


def _with_gateway(product: Installation) -> int:
    """Restart the product with a gateway in its workers; its port."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = int(probe.getsockname()[1])
    behind = product.url("health", "").replace("localhost", "127.0.0.1")
    found = {
        "listen": [f"127.0.0.1:{port}"],
        "upstream": {"url": behind},
        "decisions": {"platform": access_house.INGRESS, "refuse_in_handshake": False},
    }
    (product.work / "gateway.yaml").write_text(yaml.safe_dump(found))
    product.settings["MTLS_GATEWAY"] = str(product.work / "gateway.yaml")
    product.stop()
    product.start()
    _until(lambda: _listens(port), time.perf_counter())
    return port


def _issue(product: Installation, name: str) -> tuple[str, str]:
    """Serial number and certificate (PEM) of a new service of finance; files ``victim.pem`` and ``victim.key``."""
    body = {"domain": access_house.DOMAIN, "kind": "service", "name": name, "team": "finance", "service": "pay"}
    identity = _call(product, "/mtls/v1/identities", body)
    key = new_key()
    issued = _call(product, f"/mtls/v1/identities/{identity['id']}/certificates", {"csr": new_request(key).decode()})
    (product.work / "victim.pem").write_text(issued["certificate"])
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (product.work / "victim.key").write_bytes(plain)
    return issued["serial"], issued["certificate"]


def _call(product: Installation, path: str, body: dict[str, str]) -> dict[str, str]:
    transport = httpx.HTTPTransport(uds=str(Path(product.data) / "admin.sock"))
    with httpx.Client(transport=transport, base_url="http://localhost", timeout=_PATIENCE) as http:
        answer = http.post(path, json=body)
        answer.raise_for_status()
        found: dict[str, str] = answer.json()
        return found


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _open(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
    return context.wrap_socket(raw, server_hostname="localhost")


def _answered(connection: ssl.SSLSocket) -> bool:
    """Whether a request gets past the gateway (what the service says to it does not matter)."""
    connection.sendall(b"GET /pay/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return not connection.recv(65536).startswith((b"HTTP/1.1 401", b"HTTP/1.1 403"))


def _until(condition: Callable[[], bool], begun: float) -> float:
    while not condition():
        if time.perf_counter() - begun > _PATIENCE:
            break
    return time.perf_counter() - begun


def _until_cut(connection: ssl.SSLSocket, begun: float) -> float:
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass
    return time.perf_counter() - begun
