"""``million``: what changes when the database holds a million certificates."""

from __future__ import annotations

import json
import ssl
import statistics
import time
import urllib.request
from http.client import HTTPSConnection

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from bench import fill, load, ocsp_load
from bench.figure import Figure
from bench.installation import CA, Installation, installation
from intaglio.db.embedded import EmbeddedPostgres

CERTIFICATES = 1_000_000
CONNECTIONS = 32
OCSP_CONNECTIONS = 8
REPEATS = 15


def measure() -> Figure:
    """Issuance before and after filling; then pages and status of what is there."""
    figure = Figure("million")
    with installation(DATABASE_TIMEOUT="120") as product:
        product.enrolments(connections=CONNECTIONS, seconds=3)
        before = product.enrolments(connections=CONNECTIONS, seconds=6)
        url = EmbeddedPostgres(product.data).url
        fill.add_certificates(url, CERTIFICATES)
        _settle(url)
        product.enrolments(connections=CONNECTIONS, seconds=3)
        after = product.enrolments(connections=CONNECTIONS, seconds=6)
        slowdown = (1 - after.rate / before.rate) * 100
        figure.add("issuance slows by", slowdown, "%", "<", 10, f"{before.rate:,.0f}/s -> {after.rate:,.0f}/s")
        base = f"/cagw/v1/certificate-authorities/{CA}"
        listing = _milliseconds(product, f"{base}/certificates?limit=100")
        figure.add("list page of 100", listing, "ms", "<", 100)
        events = _milliseconds(product, f"{base}/certificate-events?preferredPageSize=1000&$fields=-events.certificate")
        figure.add("event page of 1,000", events, "ms", "<", 50, "without certificates")
        status = _ocsp(product, url)
        figure.add("OCSP p99", status.p99, "ms", "<", 10, f"{OCSP_CONNECTIONS} connections, {status.rate:,.0f}/s")
        figure.measured = {
            "before": before.__dict__, "after": after.__dict__, "list_ms": listing, "events_ms": events,
            "ocsp": status.__dict__,
        }  # fmt: skip
    return figure


def _settle(url: str) -> None:
    """Wait until the audit trail is sealed up to its end, so that the next figure measures itself only."""
    deadline = time.monotonic() + 300
    with psycopg.connect(url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            row = connection.execute(
                "SELECT audit_seq - coalesce((SELECT max(last_seq) FROM audit_seal), 0) FROM journal_head"
            ).fetchone()
            if row == (0,):
                connection.execute("CHECKPOINT")
                return
            time.sleep(0.5)
    raise RuntimeError("the audit trail was not sealed in time")


def _milliseconds(product: Installation, path: str) -> float:
    """Median of repeated requests over one kept-alive connection."""
    files = product.mutual_tls
    context = ssl.create_default_context(cafile=files["ca"])
    context.load_cert_chain(files["cert"], files["key"])
    connection = HTTPSConnection("localhost", product.runtime.port("gateway"), context=context)
    took = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        took.append((time.perf_counter() - began) * 1000)
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {json.loads(body)}")
    return statistics.median(took)


def _ocsp(product: Installation, url: str) -> load.Result:
    with urllib.request.urlopen(product.url("public", f"/aia/{CA.replace('~', '/')}/ca.cer"), timeout=10) as answer:
        issuer = x509.load_der_x509_certificate(answer.read())
    name_hash, key_hash = _hashes(issuer)
    requests = []
    for serial in fill.serials(url, 4000):
        body = ocsp.OCSPRequestBuilder().add_certificate_by_hash(name_hash, key_hash, serial, SHA1()).build()
        wire = load.http_request(
            "POST", ocsp_load.PATH, "localhost", body.public_bytes(Encoding.DER), "application/ocsp-request"
        )
        requests.append(wire)
    port = product.runtime.port("public")
    return load.run(host="127.0.0.1", port=port, requests=requests, connections=OCSP_CONNECTIONS, seconds=5)


def _hashes(issuer: x509.Certificate) -> tuple[bytes, bytes]:
    probe = ocsp.OCSPRequestBuilder().add_certificate(issuer, issuer, SHA1()).build()
    return probe.issuer_name_hash, probe.issuer_key_hash
