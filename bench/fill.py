"""Filling a database with many certificates without issuing each one."""

from __future__ import annotations

import psycopg

CHUNK = 100_000

_CERTIFICATES = """
INSERT INTO certificate (id, ca_id, generation, partition, serial, subject, subject_key, sans, profile, not_before,
    not_after, issued_at, spki_sha256, der, requester, channel, properties)
SELECT ('0190' || lpad(to_hex(i), 8, '0') || '7000' || '8' || substr(md5(i::text), 1, 15))::uuid, t.ca_id, t.generation,
    t.partition, set_byte(decode(md5('s' || i) || substr(md5('t' || i), 1, 8), 'hex'), 0, 1 + i %% 100),
    'CN=host-' || i || '.bench.test', sha256(('CN=host-' || i)::bytea), ARRAY['dNSName:host-' || i || '.bench.test'],
    t.profile, t.not_before, t.not_after, t.issued_at, sha256(i::text::bytea), t.der, t.requester, t.channel, '{}'
FROM certificate t, generate_series(%(first)s, %(last)s) AS i WHERE t.id = %(template)s
"""

_EVENTS = """
WITH head AS (UPDATE journal_head SET event_seq = event_seq + %(count)s, audit_seq = audit_seq + %(count)s
    WHERE id = 1 RETURNING event_seq, audit_seq),
numbered AS (SELECT *, row_number() OVER (ORDER BY id) AS n FROM certificate
    WHERE id >= %(from)s::uuid AND id <= %(to)s::uuid),
events AS (INSERT INTO certificate_event (seq, at, ca_id, action, certificate_id, serial, detail)
    SELECT event_seq - %(count)s + n, issued_at, ca_id, 'issued', id, serial, '{}' FROM numbered, head)
INSERT INTO audit_record (seq, at, actor_kind, actor, action, object_kind, object, outcome, organization, detail,
    correlation_id, source)
SELECT audit_seq - %(count)s + n, issued_at, 'client', requester, 'certificate.issue', 'certificate',
    'bench~issuing/' || upper(encode(serial, 'hex')), 'success', 'bench', '{}', '', '127.0.0.1' FROM numbered, head
"""

_REVOCATIONS = """
WITH chosen AS (SELECT * FROM certificate WHERE ca_id = (SELECT ca_id FROM certificate WHERE id = %(template)s)
    AND status = 'valid' AND subject LIKE 'CN=host-%%' ORDER BY id LIMIT %(count)s),
marked AS (UPDATE certificate c SET status = 'revoked', revoked_at = now(), reason = 1 FROM chosen
    WHERE c.id = chosen.id)
INSERT INTO revocation (ca_id, serial, generation, partition, revoked_at, not_after, entry)
SELECT ca_id, serial, generation, partition, date_trunc('second', now()), not_after,
    '\\x3033'::bytea || '\\x0214'::bytea || serial || '\\x170d'::bytea
    || convert_to(to_char(now() AT TIME ZONE 'UTC', 'YYMMDDHH24MISS') || 'Z', 'UTF8')
    || '\\x300c300a0603551d1504030a0101'::bytea
FROM chosen
"""


def add_certificates(url: str, count: int) -> None:
    """Add that many rows like the newest certificate of a gateway client, each with its event and audit record."""
    with psycopg.connect(url, autocommit=True) as connection:
        template = _template(connection)
        for first in range(1, count + 1, CHUNK):
            last = min(first + CHUNK - 1, count)
            connection.execute(_CERTIFICATES, {"first": first, "last": last, "template": template})
            bounds = {"from": _uuid(first, "0"), "to": _uuid(last, "f"), "count": last - first + 1}
            connection.execute(_EVENTS, bounds)
        connection.execute("ANALYZE")


def revoke(url: str, count: int) -> None:
    """Mark that many of the added certificates revoked, with their CRL entries."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_REVOCATIONS, {"count": count, "template": _template(connection)})
        connection.execute("ANALYZE")


def serials(url: str, count: int) -> list[int]:
    """Serial numbers spread over the added certificates."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT serial FROM certificate TABLESAMPLE BERNOULLI (1) REPEATABLE (7) WHERE subject LIKE %s LIMIT %s",
            ("CN=host-%.bench.test", count),
        ).fetchall()
    return [int.from_bytes(row[0], "big") for row in rows]


def _template(connection: psycopg.Connection[tuple[object, ...]]) -> object:
    row = connection.execute(
        "SELECT id FROM certificate WHERE channel = 'gateway-api' ORDER BY id DESC LIMIT 1"
    ).fetchone()
    if row is None:
        raise RuntimeError("issue a certificate through the gateway first")
    return row[0]


def _uuid(number: int, rest: str) -> str:
    return f"0190{number:08x}7000{'8' if rest == '0' else 'f'}{rest * 15}"
