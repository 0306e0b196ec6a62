"""``tsa``: RFC 3161 tokens per second, with a P-256 and an RSA-2048 key."""

from __future__ import annotations

import hashlib
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from tests.support.clocks import Chronyd
from tests.support.product import eventually

from bench import load, ocsp_load, reference
from bench.figure import Figure
from bench.installation import CA, Installation, installation
from intaglio.core.errors import Refused
from intaglio.timestamping.reading import read_reply
from intaglio.timestamping.verification import make_query

SHARE = 0.50
QUERIES = 256
_TYPE = "application/timestamp-query"


def measure() -> Figure:
    """The reference is the smaller of the bare signing rate and a static responder's rate."""
    figure = Figure("tsa")
    with tempfile.TemporaryDirectory(prefix="intaglio-bench-chrony-") as folder, installation() as product:
        chronyd = Chronyd(Path(folder) / "run")
        chronyd.start()
        try:
            product.run(
                "settings", "set", "timestamping.clock_source=chrony", f"timestamping.chrony_address={chronyd.address}"
            )
            for name, key, sign in (("P-256", "P-256", _ecdsa()), ("RSA-2048", "RSA-2048", _rsa())):
                _measure_key(figure, product, name, key, sign)
        finally:
            chronyd.stop()
    return figure


def _measure_key(figure: Figure, product: Installation, name: str, key: str, sign: Callable[[], bytes]) -> None:
    path = f"/tsa/{key.lower()}"
    created = ("tsa", "issuer", "create", key.lower(), "--policy", "1.3.6.1.4.1.99999.1", "--ca", CA, "--key", key)
    product.run(*created)
    eventually(lambda: _size(product, path) > 0, what=f"{name} gives timestamps")
    requests = [load.http_request("POST", path, "localhost", _query(number), _TYPE) for number in range(QUERIES)]
    with ocsp_load.static_responder(_size(product, path)) as static_port:
        rounds = [
            (
                reference.rate(sign, seconds=2),
                ocsp_load.run(static_port, requests),
                ocsp_load.run(product.runtime.port("public"), requests),
            )
            for _ in range(3)
        ]
    shares = sorted(rounds, key=lambda each: each[2].rate / min(each[0], each[1].rate))
    signing, static, stamped = shares[1]
    bound = min(signing, static.rate)
    note = f"{stamped.rate:,.0f}/s of {bound:,.0f}/s, p99 {stamped.p99:.1f} ms"
    figure.add(f"{name} tokens / min(bare signing, static)", stamped.rate / bound, "", ">=", SHARE, note)
    others = sum(number for status, number in stamped.statuses.items() if status != "200")
    figure.add(f"{name} answers other than 200", others, "", "<=", 0)
    figure.measured[name] = {"signing_per_second": signing, "static": static.__dict__, "stamped": stamped.__dict__}


def _query(number: int) -> bytes:
    return make_query(hashlib.sha256(str(number).encode()).digest(), "sha256").der


def _size(product: Installation, path: str) -> int:
    """Octets of one reply with a token; 0 while there is none."""
    wire = urllib.request.Request(product.url("public", path), _query(0), {"Content-Type": _TYPE})
    try:
        with urllib.request.urlopen(wire, timeout=10) as answer:
            reply: bytes = answer.read()
        read_reply(reply)
    except (OSError, Refused):
        return 0
    return len(reply)


def _ecdsa() -> Callable[[], bytes]:
    return reference.bare_signature()


def _rsa() -> Callable[[], bytes]:
    key, data = rsa.generate_private_key(65537, 2048), b"x" * 300
    padded, digest = padding.PKCS1v15(), hashes.SHA256()
    return lambda: key.sign(data, padded, digest)
