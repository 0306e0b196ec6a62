"""Tables of the validation authority: whose certificates it knows, what it knows of them, and from where.

What is known of the certificates of one authority is a *set*. An authority serves one set at a time
(``status_authority.set_id``); a new source, or a feed that has to be read from its beginning, fills a new one, and the
change from one to the other is one row. Sets that nobody serves any more are removed bit by bit.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    UniqueConstraint,
    text,
)

from intaglio.db.base import Json, Moment, Octets, String, Uuid, metadata, optional, required

#: A CA, ours or somebody else's, whose certificates' status is given out. A change of it moves the configuration epoch.
status_authority = Table(
    "status_authority",
    metadata,
    required("id", Uuid, primary_key=True),
    required("name", String),
    required("enabled", Boolean, server_default=text("true")),
    required("source", String),  # native, gateway, crl
    # native: our CA, whose status is read from the table of certificates; nothing of it is copied.
    optional("ca_id", Uuid, ForeignKey("ca.id")),
    required("set_id", Uuid),  # what is served; nothing refers to it by a foreign key, for speed
    required("profile", String),  # status profile
    required("options", Json),  # of the source
    required("responder", Json),  # how it answers
    required("version", Integer, server_default="1"),
    required("created_by", String),
    required("created_at", Moment),
    required("changed_at", Moment),
    UniqueConstraint("name"),
    Index("ix_status_authority_ca_id", "ca_id"),
)

#: Certificates of the CA whose keys sign what it issues; several while its key is rolled over.
status_issuer = Table(
    "status_issuer",
    metadata,
    required("authority_id", Uuid, ForeignKey("status_authority.id", ondelete="CASCADE")),
    required("position", SmallInteger),
    required("certificate", Octets),
    required("spki_sha256", Octets),
    required("not_after", Moment),
    PrimaryKeyConstraint("authority_id", "position"),
)

#: What is known of one certificate. Millions of rows: no foreign keys, one index, room for updates in place, vacuumed
#: long before a fifth of it has changed (storage parameters stand in the migration).
status_entry = Table(
    "status_entry",
    metadata,
    required("set_id", Uuid),
    required("serial", Octets),  # minimal big-endian octets
    required("state", SmallInteger),  # 0 good, 1 revoked, 2 held
    required("part", SmallInteger, server_default="0"),  # which CRL of a partitioned set says revoked or held
    required("listed", Boolean, server_default=text("false")),  # on the list of serial numbers
    optional("revoked_at", Moment),
    optional("reason", SmallInteger),
    optional("invalidity_at", Moment),
    optional("not_after", Moment),
    optional("certificate", Octets),
    PrimaryKeyConstraint("set_id", "serial"),
)
#: How far one part of a source has been read into a set: a feed, a CRL of a partition, a delta, a serial-number list.
status_source = Table(
    "status_source",
    metadata,
    required("set_id", Uuid),
    required("part", String),
    required("authority_id", Uuid, ForeignKey("status_authority.id", ondelete="CASCADE")),
    required("number", SmallInteger),  # `part` of its entries
    optional("cursor", String),
    optional("crl_number", Numeric),
    optional("this_update", Moment),
    optional("next_update", Moment),
    optional("etag", String),
    optional("last_modified", String),
    optional("digest", Octets),  # SHA-256 of what was read last
    optional("last_ok_at", Moment),
    optional("last_tried_at", Moment),
    optional("last_error", String),
    required("entries", BigInteger, server_default="0"),
    required("complete", Boolean, server_default=text("false")),  # it has been read to its end at least once
    required("facts", Json, server_default="{}"),
    PrimaryKeyConstraint("set_id", "part"),
    Index("ix_status_source_authority_id", "authority_id"),
)

#: Who reads the source of an authority now, until when he is believed to be alive, and how far he has come.
status_pull = Table(
    "status_pull",
    metadata,
    required("authority_id", Uuid, ForeignKey("status_authority.id", ondelete="CASCADE"), primary_key=True),
    optional("holder", Uuid),  # a jobs process
    optional("held_until", Moment),  # by the clock of the database
    optional("wanted_at", Moment),  # somebody asked for a pull
    optional("started_at", Moment),
    optional("ended_at", Moment),
    optional("outcome", String),  # changed, unchanged, failed
    optional("detail", String),
    required("done", BigInteger, server_default="0"),
)

#: One row: the version of everything known. Taken at the end of each transaction that changes entries.
status_head = Table(
    "status_head",
    metadata,
    required("id", SmallInteger, primary_key=True, autoincrement=False),
    required("version", BigInteger, server_default="0"),
    CheckConstraint("id = 1", name="single"),
)

#: What changed in a version, for whoever remembers statuses. Kept for an hour.
status_change = Table(
    "status_change",
    metadata,
    required("id", BigInteger, primary_key=True, autoincrement=True),
    required("version", BigInteger),
    required("set_id", Uuid),
    optional("serial", Octets),  # null: any of the set
    required("at", Moment),
    Index("ix_status_change_version", "version"),
    Index("ix_status_change_at", "at"),
)

#: Keys that sign answers about the certificates of an authority.
status_signer = Table(
    "status_signer",
    metadata,
    required("id", Uuid, primary_key=True),
    # null: shared by several authorities
    optional("authority_id", Uuid, ForeignKey("status_authority.id", ondelete="CASCADE")),
    required("kind", String),  # delegated, shared, ca, automatic
    required("label", String, server_default=""),
    required("key_id", Uuid, ForeignKey("private_key.id")),
    optional("request", Octets),  # PKCS #10, DER
    optional("certificate", Octets),  # null until it is imported
    optional("chain", Octets),  # concatenated DER, issuer first
    optional("not_before", Moment),
    optional("not_after", Moment),
    required("current", Boolean, server_default=text("false")),
    optional("issuing_ca_id", Uuid, ForeignKey("ca.id")),
    required("created_by", String),
    required("created_at", Moment),
    Index("ix_status_signer_authority_id", "authority_id"),
)

#: Client credentials for gateways whose feed is read.
status_credential = Table(
    "status_credential",
    metadata,
    required("id", Uuid, primary_key=True),
    required("private_key_id", Uuid, ForeignKey("private_key.id")),
    required("origin", String),  # pkcs12, issued, est
    required("certificate", Octets),
    required("chain", Octets),  # concatenated DER, issuer first
    required("subject", String),
    required("serial", Octets),
    required("not_before", Moment),
    required("not_after", Moment),
    optional("issuing_ca_id", Uuid, ForeignKey("ca.id")),
    optional("replaces", Uuid),
    required("est", Json, server_default="{}"),  # url and anchors of the server it came from
    required("created_by", String),
    required("created_at", Moment),
    optional("deleted_at", Moment),
)

#: Directories that CRLs are read from.
status_directory = Table(
    "status_directory",
    metadata,
    required("id", Uuid, primary_key=True),
    required("name", String),
    required("url", String),  # ldap://host:port, ldaps://host:port
    required("start_tls", Boolean, server_default=text("false")),
    required("server_ca", String, server_default=""),  # PEM; empty: those the system trusts
    required("user_name", String, server_default=""),  # empty: anonymous
    optional("sealed", Octets),  # the password, under the master key
    required("created_by", String),
    required("created_at", Moment),
    required("changed_at", Moment),
    UniqueConstraint("name"),
)
