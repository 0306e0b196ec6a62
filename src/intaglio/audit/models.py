"""Tables: audit records (insert only) and the seals over them."""

from sqlalchemy import BigInteger, Index, Table, text

from intaglio.db.base import Json, Moment, Octets, String, Uuid, metadata, optional, required
from intaglio.db.journal import Stream

audit_record = Table(
    "audit_record",
    metadata,
    required("seq", BigInteger, primary_key=True, autoincrement=False),
    required("at", Moment),
    required("actor_kind", String),  # operator, user, client, system, anonymous
    required("actor", String),
    required("action", String),  # noun.verb
    required("object_kind", String),
    required("object", String),
    required("outcome", String),  # success, refused, failed
    optional("organization", String),
    required("detail", Json),
    required("correlation_id", String),
    required("source", String),
    Index("ix_audit_record_object", "object_kind", "object", "seq"),
    Index("ix_audit_record_at", "at"),
    Index("ix_audit_record_organization", "organization", "seq", postgresql_where=text("organization IS NOT NULL")),
)

audit_seal = Table(
    "audit_seal",
    metadata,
    required("number", BigInteger, primary_key=True, autoincrement=False),
    required("first_seq", BigInteger, unique=True),
    required("last_seq", BigInteger, unique=True),
    required("root", Octets),
    # The leaf hashes under the root, 32 octets each: they tell which record was altered, and make proofs cheap.
    required("leaves", Octets),
    required("previous", Octets),
    required("sealed_at", Moment),
    required("key_id", Uuid),
    required("signature", Octets),
)

#: Journalled stream of audit records.
AUDIT = Stream("audit_seq", audit_record)
