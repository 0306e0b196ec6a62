"""Tables of alerts: what is wrong, who was told, and which kinds are silent until when."""

from sqlalchemy import ForeignKey, Index, Integer, PrimaryKeyConstraint, Table, UniqueConstraint, text

from intaglio.db.base import Moment, String, Uuid, metadata, optional, required

alert = Table(
    "mtls_alert",
    metadata,
    required("id", Uuid, primary_key=True),
    required("organization_id", Uuid, ForeignKey("organization.id")),
    required("kind", String),
    required("subject", String),  # identity, serial number or address that it is about
    required("ingress", String, server_default=""),
    required("severity", String),  # info, warning, critical
    required("state", String),  # open, acknowledged, closed
    required("detail", String),
    required("count", Integer),
    required("first_seen", Moment),
    required("last_seen", Moment),
    optional("changed_by", String),
    optional("changed_at", Moment),
    optional("opened_at", Moment),  # for the last time
    optional("escalated_at", Moment),  # when nobody had acknowledged it
    Index(
        "uq_mtls_alert_live",
        "organization_id",
        "kind",
        "subject",
        "ingress",
        unique=True,
        postgresql_where=text("state <> 'closed'"),
    ),
    Index("ix_mtls_alert_organization_id", "organization_id", "id"),
)

#: Every kind of alert that was fired as a test and arrived.
alert_proof = Table(
    "mtls_alert_proof",
    metadata,
    required("organization_id", Uuid, ForeignKey("organization.id")),
    required("kind", String),
    required("proved_by", String),
    required("proved_at", Moment),
    required("detail", String),
    PrimaryKeyConstraint("organization_id", "kind"),
)

#: A kind that is silent for a while. No kind is silent for ever.
alert_mute = Table(
    "mtls_alert_mute",
    metadata,
    required("organization_id", Uuid, ForeignKey("organization.id")),
    required("kind", String),
    required("until", Moment),
    required("reason", String),
    required("muted_by", String),
    required("muted_at", Moment),
    PrimaryKeyConstraint("organization_id", "kind"),
)

#: What has to be told over which channel. Kept until it arrived, or was tried too often.
alert_delivery = Table(
    "mtls_alert_delivery",
    metadata,
    required("id", Uuid, primary_key=True),
    required("alert_id", Uuid, ForeignKey("mtls_alert.id", ondelete="CASCADE")),
    required("channel", String),  # mail, webhook, syslog, escalation
    required("cause", String),  # opened, escalated, unacknowledged
    required("attempts", Integer, server_default="0"),
    required("next_at", Moment),
    optional("delivered_at", Moment),
    optional("given_up_at", Moment),
    required("error", String, server_default=""),
    UniqueConstraint("alert_id", "channel", "cause"),
    Index(
        "ix_mtls_alert_delivery_next_at",
        "next_at",
        postgresql_where=text("delivered_at IS NULL AND given_up_at IS NULL"),
    ),
)

#: How far access events were looked at; one row.
alert_progress = Table(
    "mtls_alert_progress",
    metadata,
    required("name", String, primary_key=True),
    required("event_id", Uuid),
    optional("snapshot", String),  # pg_snapshot: what was visible to the last look
)

#: The networks that identities came from.
seen_network = Table(
    "mtls_seen_network",
    metadata,
    required("organization_id", Uuid, ForeignKey("organization.id")),
    required("identity", String),
    required("network", String),
    required("first_seen", Moment),
    required("last_seen", Moment),
    PrimaryKeyConstraint("organization_id", "identity", "network"),
    Index("ix_mtls_seen_network_last_seen", "last_seen"),
)
