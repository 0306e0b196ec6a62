"""Tables of the timestamping authority."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Table,
    UniqueConstraint,
    text,
)

from intaglio.db.base import Json, Moment, Octets, String, Uuid, metadata, optional, required

#: Who signs tokens: a key with its certificate, now and as it was renewed. Several issuers may share one.
timestamp_signer = Table(
    "timestamp_signer",
    metadata,
    required("id", Uuid, primary_key=True),
    required("kind", String),  # automatic: certified and renewed by one of our CAs; foreign: by somebody else
    optional("ca_id", Uuid, ForeignKey("ca.id")),
    required("options", Json),  # SignerOptions
    required("created_at", Moment),
    CheckConstraint("(kind = 'automatic') = (ca_id IS NOT NULL)", name="kind"),
)

#: The keys of a signer: the one in use, one that waits for its certificate, and those that were replaced.
timestamp_key = Table(
    "timestamp_key",
    metadata,
    required("id", Uuid, primary_key=True),
    required("signer_id", Uuid, ForeignKey("timestamp_signer.id")),
    required("state", String),  # pending, current, replaced
    required("key_id", Uuid, ForeignKey("private_key.id")),
    optional("request", Octets),  # PKCS #10
    optional("certificate", Octets),
    required("chain", ARRAY(Octets)),  # CA certificates, issuer first
    optional("certificate_id", Uuid),  # when one of our CAs issued it
    optional("not_before", Moment),
    optional("not_after", Moment),
    required("changed_at", Moment),
    CheckConstraint("(state = 'pending') = (certificate IS NULL)", name="state"),
    Index("uq_timestamp_key_current", "signer_id", unique=True, postgresql_where=text("state = 'current'")),
    Index("uq_timestamp_key_pending", "signer_id", unique=True, postgresql_where=text("state = 'pending'")),
    Index("ix_timestamp_key_key_id", "key_id"),
)

#: An endpoint at which timestamps are asked for. A change of it moves the configuration epoch.
timestamp_issuer = Table(
    "timestamp_issuer",
    metadata,
    required("id", Uuid, primary_key=True),
    required("name", String),
    required("enabled", Boolean, server_default=text("true")),
    required("profile", Json),  # TokenProfile
    required("signer_id", Uuid, ForeignKey("timestamp_signer.id")),
    required("version", Integer, server_default="1"),
    required("created_by", String),
    required("created_at", Moment),
    required("changed_at", Moment),
    UniqueConstraint("name"),
    Index("ix_timestamp_issuer_signer_id", "signer_id"),
)

#: One row: how many serial numbers were given out, and the secret that scatters them.
timestamp_serial = Table(
    "timestamp_serial",
    metadata,
    required("id", SmallInteger, primary_key=True, autoincrement=False),
    required("given", BigInteger, server_default="0"),
    required("sealed", Octets),
    CheckConstraint("id = 1", name="single"),
)

#: The latest time in an ordered token of a signer, in microseconds since 1970.
timestamp_order = Table(
    "timestamp_order",
    metadata,
    required("signer_id", Uuid, ForeignKey("timestamp_signer.id", ondelete="CASCADE"), primary_key=True),
    required("latest", BigInteger),
)
