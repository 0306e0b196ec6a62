"""Tables of SCEP."""

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, PrimaryKeyConstraint, Table, text

from intaglio.db.base import Json, Moment, Octets, String, Uuid, metadata, optional, required

#: Registration authorities: of each CA and set of options the current one, and those that were replaced. A change of
#: it moves the configuration epoch.
ra = Table(
    "scep_ra",
    metadata,
    required("id", Uuid, primary_key=True),
    required("ca_id", Uuid, ForeignKey("ca.id")),
    required("generation", Integer),  # of the CA's key that issued its certificates
    required("options", Json),  # RaOptions
    required("options_digest", Octets),
    required("state", String),  # current, replaced
    required("key_id", Uuid, ForeignKey("private_key.id")),  # decrypts, and signs unless there is another for that
    required("certificate_id", Uuid),
    required("certificate", Octets),
    optional("signing_key_id", Uuid, ForeignKey("private_key.id")),
    optional("signing_certificate_id", Uuid),
    optional("signing_certificate", Octets),
    required("not_before", Moment),
    required("not_after", Moment),
    required("created_at", Moment),
    CheckConstraint("(signing_key_id IS NULL) = (signing_certificate IS NULL)", name="signing"),
    CheckConstraint("state IN ('current', 'replaced')", name="state"),
    Index("uq_scep_ra_current", "ca_id", "options_digest", unique=True, postgresql_where=text("state = 'current'")),
    Index("ix_scep_ra_key_id", "key_id"),
    Index("ix_scep_ra_signing_key_id", "signing_key_id"),
)

#: Transactions under way or over: whose they are, what they asked for, who is at it until when, and what came of it.
transaction = Table(
    "scep_transaction",
    metadata,
    required("endpoint_id", Uuid, ForeignKey("enrollment_endpoint.id", ondelete="CASCADE")),
    required("digest", Octets),  # SHA-256 of the transaction id, which clients choose
    required("signer", Octets),  # SHA-256 of the key that signs its messages
    required("wish", Octets),  # SHA-256 of what is asked for
    required("key", String),  # by which the request is known to everybody behind
    optional("holder", String),  # who is issuing; null: nobody
    optional("held_until", Moment),
    optional("certificate_id", Uuid),
    required("created_at", Moment),
    required("seen_at", Moment),
    PrimaryKeyConstraint("endpoint_id", "digest"),
    Index("ix_scep_transaction_seen_at", "seen_at"),
)
