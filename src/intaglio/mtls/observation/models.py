"""Tables of what was observed."""

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, PrimaryKeyConstraint, Table, text

from intaglio.db.base import Moment, Octets, String, Uuid, metadata, optional, required

#: Written in large batches by COPY and never changed, so there are no foreign keys and few indexes. ``id`` is in the
#: order of recording (UUIDv7), ``at`` is when it happened.
access_event = Table(
    "mtls_access_event",
    metadata,
    required("id", Uuid, primary_key=True),
    required("at", Moment),
    required("kind", String),  # request, handshake; loss: ``count`` events could not be kept
    required("count", Integer, server_default="1"),
    required("recorder", String),  # decision, gateway, import, test
    optional("organization_id", Uuid),
    optional("ingress_id", Uuid),
    required("ingress", String, server_default=""),
    required("source_ip", String, server_default=""),
    required("identity", String, server_default=""),  # URI of an identity whose certificate was good
    required("claimed", String, server_default=""),  # who the certificate was made out to, good or not
    required("identity_kind", String, server_default=""),
    required("serial", Octets, server_default=""),
    required("fingerprint", Octets, server_default=""),
    required("issuer", String, server_default=""),
    required("san", String, server_default=""),
    optional("not_after", Moment),
    required("tls_version", String, server_default=""),
    required("cipher", String, server_default=""),
    required("decision", String, server_default=""),  # allow, deny
    required("mode", String, server_default=""),
    required("reason", String, server_default=""),
    required("certificate_reason", String, server_default=""),
    optional("ip_allowed", Boolean),
    required("method", String, server_default=""),
    required("host", String, server_default=""),
    required("path", String, server_default=""),
    required("policy", String, server_default=""),  # {name}@{version}
    required("detail", String, server_default=""),
    # The transaction that recorded it: what was not visible in an earlier snapshot is new, however late it came.
    optional("recorded_by", BigInteger, server_default=text("((pg_current_xact_id())::text)::bigint")),
    Index("ix_mtls_access_event_recorded_by", "recorded_by"),
    Index("ix_mtls_access_event_organization_id", "organization_id", "at", "id"),
    Index("ix_mtls_access_event_ingress_id", "ingress_id", "at"),
    Index("ix_mtls_access_event_identity", "identity", "at", postgresql_where=text("identity <> ''")),
    Index("ix_mtls_access_event_at", "at", postgresql_using="brin"),
)

#: How far the log of an ingress made by somebody else was imported.
log_import = Table(
    "mtls_log_import",
    metadata,
    required("ingress_id", Uuid, ForeignKey("mtls_ingress.id", ondelete="CASCADE")),
    required("source", Octets),  # SHA-256 of its first line
    required("position", BigInteger),  # octets
    required("last", Octets),  # SHA-256 of the last line before the position
    required("imported_by", String),
    required("changed_at", Moment),
    PrimaryKeyConstraint("ingress_id", "source"),
)
