"""``ocsp-five-million``: status of 5,000,000 certificates of 20 other CAs, every request about another certificate."""

from __future__ import annotations

import functools
import hashlib
import json
from datetime import timedelta

import psycopg
from cryptography.x509 import ocsp
from tests.support.foreign import ForeignCa
from tests.support.product import eventually

from bench import load, ocsp_load, process
from bench.figure import Figure
from bench.installation import CA, Installation, installation
from intaglio.core import clock
from intaglio.db.embedded import EmbeddedPostgres
from intaglio.validation.ocsp import client
from intaglio.x509.certificates import CertificateInfo, read_certificate

AUTHORITIES = 20
CERTIFICATES = 5_000_000
QUESTIONS = 60_000
CONNECTIONS = 8
RUNS = 3
LIMIT_MIB = 300

_ENTRIES = """
INSERT INTO status_entry (set_id, serial, state, revoked_at, reason, not_after)
SELECT %(set)s, serial, CASE WHEN n %% 50 = 0 THEN 1 ELSE 0 END, CASE WHEN n %% 50 = 0 THEN now() END,
    CASE WHEN n %% 50 = 0 THEN 1 END, now() + interval '1 year'
FROM (SELECT n, set_byte(decode(md5(%(name)s || n), 'hex'), 0, 1 + n %% 100) AS serial
    FROM generate_series(1, %(count)s) AS n) AS made ORDER BY serial
"""
_SOURCE = """
INSERT INTO status_source (set_id, part, authority_id, number, this_update, next_update, last_ok_at, complete, entries)
VALUES (%(set)s, '', %(authority)s, 0, %(now)s, %(end)s, %(now)s, true, %(count)s)
ON CONFLICT (set_id, part) DO UPDATE SET this_update = excluded.this_update, next_update = excluded.next_update,
    last_ok_at = excluded.last_ok_at, complete = true
"""


def measure() -> Figure:
    """One shared signer; the CRLs of the authorities are not read, their entries are written straight to the tables."""
    figure = Figure("ocsp-five-million")
    cas = [ForeignCa(f"Foreign {number}") for number in range(AUTHORITIES)]
    with installation(DATABASE_TIMEOUT="300") as product:
        _establish(product, cas)
        url = EmbeddedPostgres(product.data).url
        requests = _fill(url, cas)
        port = product.runtime.port("public")
        eventually(lambda: ocsp_load.answer_size(product, requests[0], "/eva") > 200, what="an answer is given")
        slices = [requests[number::RUNS] for number in range(RUNS)]  # nothing is asked twice
        runs = [
            load.run(host="127.0.0.1", port=port, requests=each, connections=CONNECTIONS, seconds=3)
            for each in slices
        ]
        asked = sorted(runs, key=lambda run: run.p99)[RUNS // 2]
        successful = sum(_is_successful(product, request) for request in requests[:: QUESTIONS // 50])
        sizes = {n: process.resident(pid) for n, pid in product.runtime.processes.items() if "worker" in n}
    figure.add("uncached OCSP p99", asked.p99, "ms", "<", 10, f"{CONNECTIONS} connections, {asked.rate:,.0f}/s")
    figure.add("largest worker", max(sizes.values()), "MiB", "<", LIMIT_MIB)
    refused = sum(n for run in runs for status, n in run.statuses.items() if status != "200")
    figure.add("answers other than 200", refused, "", "<=", 0)
    figure.add("of 50 samples not successful", 50 - min(successful, 50), "", "<=", 0)
    figure.measured = {"runs": [run.__dict__ for run in runs], "resident_mib": sizes}
    return figure


def _establish(product: Installation, cas: list[ForeignCa]) -> None:
    """A status authority for every CA, and a signer for all of them."""
    product.run("ocsp", "signer", "create", "--shared", "common", "--ca", CA)
    for number, ca in enumerate(cas):
        spec = {
            "name": f"foreign-{number}",
            "source": "crl",
            "profile": "CRLProfileWithNextUpdate",
            "issuers": ca.pem,
            "crl": {"crls": [{"url": "http://192.0.2.1/foreign.crl"}], "wait_on_error": "30d", "wait_to_pull": "30d"},
            "responder": {"shared_signer": "common"},
        }
        (product.work / "authority.json").write_text(json.dumps(spec))
        product.run("ocsp", "authority", "create", f"foreign-{number}", "--file", "authority.json")


def _fill(url: str, cas: list[ForeignCa]) -> list[bytes]:
    """Write the entries; returns HTTP requests about certificates spread over all of them, each about another one."""
    requests = []
    now = clock.now()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        for number, ca in enumerate(cas):
            row = connection.execute(
                "SELECT id, set_id FROM status_authority WHERE name = %s", [f"foreign-{number}"]
            ).fetchone()
            assert row is not None
            count = CERTIFICATES // AUTHORITIES
            values = {"set": row[1], "authority": row[0], "name": ca.name, "count": count, "now": now,
                      "end": now + timedelta(days=1)}  # fmt: skip
            connection.execute(_ENTRIES, values)
            connection.execute(_SOURCE, values)
            step = CERTIFICATES // QUESTIONS
            requests += [_request(ca, _serial(ca, n)) for n in range(1, count + 1, step)]
        connection.execute("VACUUM ANALYZE status_entry")
        connection.execute("UPDATE status_head SET version = version + 1")
        connection.execute("NOTIFY intaglio_status")
        connection.execute("CHECKPOINT")
    # Neighbours in the list are certificates of different CAs, as they are in life.
    per_ca = len(requests) // AUTHORITIES
    return [requests[ca * per_ca + n] for n in range(per_ca) for ca in range(AUTHORITIES)]


def _serial(ca: ForeignCa, number: int) -> bytes:
    """The serial number that the database gave to the certificate of this number."""
    return bytes([1 + number % 100]) + hashlib.md5(f"{ca.name}{number}".encode(), usedforsecurity=False).digest()[1:]


def _request(ca: ForeignCa, serial: bytes) -> bytes:
    question = client.ask_about(_certificate(ca.der), serial, with_nonce=False)
    return load.http_request("POST", "/eva", "localhost", question.request, "application/ocsp-request")


@functools.cache
def _certificate(encoded: bytes) -> CertificateInfo:
    return read_certificate(encoded)


def _is_successful(product: Installation, request: bytes) -> bool:
    answer = ocsp.load_der_ocsp_response(ocsp_load.answer(product, request, "/eva"))
    return answer.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
