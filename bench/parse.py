"""``parse``: what it costs to read a message of 4 KiB, against serving it: whoever sends rubbish must not be dear."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from bench import cmp as cmp_bench
from bench import est as est_bench
from bench import load
from bench import scep as scep_bench
from bench.figure import Figure
from bench.installation import Installation, installation
from intaglio.asn1 import cmp, crmf
from intaglio.enrollment.est import encoding
from intaglio.enrollment.scep import messages
from intaglio.x509.requests import parse_request

SHARE = 0.10
OCTETS = 4096
MESSAGES = 3_000
SECONDS = 3.0
_SECRET = "a password of enough length"


@dataclass(frozen=True)
class Case:
    """One protocol: ``prepare`` makes an endpoint and HTTP requests with messages of 4 KiB, and the octets of one
    message; ``read`` parses those; ``listener`` is where they are sent."""

    name: str
    prepare: Callable[[Installation], tuple[list[bytes], bytes]]
    read: Callable[[bytes], object]
    listener: str = "public"


def measure() -> Figure:
    """One connection, so that the time of an answer is what serving costs; parsing alone is timed in this process."""
    figure = Figure("parse")
    with installation() as product:
        for case in CASES:
            requests, message = case.prepare(product)
            tls = product.mutual_tls if case.listener == "enroll" else None
            port = product.runtime.port(case.listener)
            served = load.run(
                host="127.0.0.1", port=port, requests=requests, connections=1, seconds=SECONDS, tls=tls
            )
            parsed = seconds_per_call(lambda case=case, message=message: case.read(message))  # type: ignore[misc]
            note = f"{parsed * 1e6:,.0f} µs of {served.p50 * 1e3:,.0f} µs, {len(message):,} octets"
            figure.add(f"{case.name}: parsing / serving", parsed / (served.p50 / 1e3), "", "<", SHARE, note)
            figure.measured[case.name] = {"parsed_seconds": parsed, "served": served.__dict__}
    return figure


def seconds_per_call(call: Callable[[], object]) -> float:
    """The best of several rounds: what it takes when nobody interrupts."""
    rounds = []
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(50):
            call()
        rounds.append((time.perf_counter() - started) / 50)
    return min(rounds)


def _cmp(product: Installation) -> tuple[list[bytes], bytes]:
    cmp_bench.endpoint(product)
    requests = cmp_bench.messages(MESSAGES, _names())
    return requests, requests[0].partition(b"\r\n\r\n")[2]


def _read_cmp(message: bytes) -> object:
    return crmf.read_cert_req_messages(cmp.read_message(message).content)


def _est(product: Installation) -> tuple[list[bytes], bytes]:
    est_bench.device(product)
    product.run("enroll", "endpoint", "set", "est/default", "--option", "authentication=password")
    (product.work / "secret").write_text(_SECRET)
    product.run("enroll", "credential", "create", "est/default", "--name", "device", "--secret-file", "secret")
    login = base64.b64encode(f"device:{_SECRET}".encode()).decode()
    names = [x509.DNSName(name) for name in _names(OCTETS * 3 // 4)]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    request = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.DER)
    body = base64.b64encode(request)
    path = "/.well-known/est/simpleenroll"
    made = load.http_request("POST", path, "localhost", body, f"application/pkcs10\r\nAuthorization: Basic {login}")
    return [made], body


def _read_est(message: bytes) -> object:
    return parse_request(encoding.decode(message), prove_possession=False)


def _scep(product: Installation) -> tuple[list[bytes], bytes]:
    requests = scep_bench.posts(product, MESSAGES // 2, _names(OCTETS // 2))
    return requests, requests[0].partition(b"\r\n\r\n")[2]


def _read_scep(message: bytes) -> object:
    return messages.read_message(message).content


def _names(octets: int = OCTETS) -> list[str]:
    """As many names as fill a message."""
    return [f"interface-{number:03}.device.bench.test" for number in range((octets - 450) // 33)]


#: Every protocol adds its line.
CASES = (
    Case("cmp", _cmp, _read_cmp),
    Case("est", _est, _read_est, "enroll"),
    Case("scep", _scep, _read_scep),
)
