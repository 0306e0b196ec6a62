"""OCSP requests, and the static responder they are measured against."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from tests.support.product import eventually

from bench import load
from bench.installation import CA, Installation

CONNECTIONS = 32
SECONDS = 5.0
PATH = f"/ocsp/{CA.replace('~', '/')}"


def requests_for(certificates: list[x509.Certificate], issuer: x509.Certificate, *, nonces: int = 0) -> list[bytes]:
    """HTTP POSTs of one OCSP request per certificate, or ``nonces`` of each with different nonces (RFC 9654)."""
    found = []
    for certificate in certificates:
        builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, SHA1())
        for _ in range(max(1, nonces)):
            extended = builder.add_extension(x509.OCSPNonce(secrets.token_bytes(16)), False) if nonces else builder
            body = extended.build().public_bytes(Encoding.DER)
            found.append(load.http_request("POST", PATH, "localhost", body, "application/ocsp-request"))
    return found


def issued(product: Installation, count: int) -> tuple[list[x509.Certificate], x509.Certificate]:
    """That many certificates of the issuing CA, and its own certificate."""
    import base64

    certificates = [
        x509.load_der_x509_certificate(base64.b64decode(product.issue(f"ocsp-{number}")["body"]))
        for number in range(count)
    ]
    location = product.url("public", f"/aia/{CA.replace('~', '/')}/ca.cer")
    with urllib.request.urlopen(location, timeout=10) as answer:
        return certificates, x509.load_der_x509_certificate(answer.read())


def answer(product: Installation, request: bytes, path: str = PATH) -> bytes:
    """One OCSP answer."""
    body = request.partition(b"\r\n\r\n")[2]
    wire = urllib.request.Request(product.url("public", path), body, {"Content-Type": "application/ocsp-request"})
    with urllib.request.urlopen(wire, timeout=10) as answered:
        return bytes(answered.read())


def answer_size(product: Installation, request: bytes, path: str = PATH) -> int:
    """Octets of one OCSP answer."""
    return len(answer(product, request, path))


def run(port: int, requests: list[bytes]) -> load.Result:
    """Load one port over plain HTTP."""
    return load.run(host="127.0.0.1", port=port, requests=requests, connections=CONNECTIONS, seconds=SECONDS)


@contextlib.contextmanager
def static_responder(size: int) -> Iterator[int]:
    """The static application on uvicorn with two workers, uvloop and httptools; yields its port."""
    import socket

    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "bench.static:app", "--port", str(port), "--workers", "2", "--loop", "uvloop",
         "--http", "httptools", "--no-access-log", "--log-level", "warning", "--no-server-header"],
        env={**os.environ, "BENCH_STATIC_SIZE": str(size)},
    )  # fmt: skip
    try:
        eventually(lambda: _answers(port), what="the static responder answers")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1):
            return True
    except OSError:
        return False
