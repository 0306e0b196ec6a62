"""Tables of CMP."""

from sqlalchemy import (
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

from intaglio.db.base import Moment, Octets, String, Uuid, metadata, optional, required

#: One transaction: what has to be known from one message to the next, and for how long its id cannot be used again.
cmp_transaction = Table(
    "cmp_transaction",
    metadata,
    required("id", Uuid, primary_key=True),
    required("endpoint_id", Uuid, ForeignKey("enrollment_endpoint.id", ondelete="CASCADE")),
    required("transaction_id", Octets),
    # waiting: for approval; unconfirmed; unwanted: to be revoked; closed. The last two take no further message.
    required("state", String),
    required("applicant", String),
    required("identity", Octets),  # of whoever protects its messages
    required("body", SmallInteger),  # tag number of the request
    required("request_id", BigInteger),  # certReqId
    optional("nonce", Octets),  # our last senderNonce
    required("implicit", Boolean),  # done without a confirmation
    required("encrypted", Boolean),  # the certificate is sent encrypted, which proves possession of the key
    optional("serial", Octets),  # of the certificate that waits to be confirmed
    optional("previous_serial", Octets),  # of the certificate that is revoked once it is
    required("created_at", Moment),
    required("expires_at", Moment),
    # By party and not by endpoint: what somebody signed is not to be repeated at another endpoint either.
    UniqueConstraint("identity", "transaction_id"),
    CheckConstraint("state IN ('waiting', 'unconfirmed', 'unwanted', 'closed')", name="state"),
    Index("ix_cmp_transaction_endpoint_id", "endpoint_id"),
    Index("ix_cmp_transaction_expires_at", "expires_at"),
    Index(
        "ix_cmp_transaction_under_way", "endpoint_id", postgresql_where=text("state IN ('waiting', 'unconfirmed')")
    ),
)

#: Who signs the answers for a CA: one current per CA key generation.
cmp_signer = Table(
    "cmp_signer",
    metadata,
    required("id", Uuid, primary_key=True),
    required("ca_id", Uuid, ForeignKey("ca.id")),
    required("generation", Integer),
    required("key_id", Uuid, ForeignKey("private_key.id")),
    required("certificate_id", Uuid),
    required("certificate", Octets),
    required("not_before", Moment),
    required("not_after", Moment),
    required("current", Boolean),
    Index("uq_cmp_signer_ca_id", "ca_id", "generation", unique=True, postgresql_where=text("current")),
)
