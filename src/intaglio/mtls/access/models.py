"""Tables of ingresses and of what they decide by."""

from sqlalchemy import ARRAY, ForeignKey, Index, Integer, PrimaryKeyConstraint, Table, text

from intaglio.db.base import Json, Moment, Octets, String, Uuid, metadata, optional, required

policy = Table(
    "mtls_policy",
    metadata,
    required("id", Uuid, primary_key=True),
    required("organization_id", Uuid, ForeignKey("organization.id")),
    required("name", String),
    required("description", String, server_default=""),
    required("active_version", Integer, server_default="0"),  # 0: none yet, which denies everything
    required("latest_version", Integer, server_default="0"),
    required("created_by", String),
    required("created_at", Moment),
    optional("retired_at", Moment),
    Index(
        "uq_mtls_policy_organization_id_name",
        "organization_id",
        "name",
        unique=True,
        postgresql_where=text("retired_at IS NULL"),
    ),
)

policy_version = Table(
    "mtls_policy_version",
    metadata,
    required("policy_id", Uuid, ForeignKey("mtls_policy.id", ondelete="CASCADE")),
    required("version", Integer),
    required("language", String),  # cedar, short
    required("source", String),  # as it was written
    required("cedar", String),  # what is evaluated
    required("cases", Json),  # requests with the expected decision, run before activation
    required("state", String),  # draft, active, superseded
    required("created_by", String),
    required("created_at", Moment),
    optional("activated_by", String),
    optional("activated_at", Moment),
    PrimaryKeyConstraint("policy_id", "version"),
)

ingress = Table(
    "mtls_ingress",
    metadata,
    required("id", Uuid, primary_key=True),
    required("organization_id", Uuid, ForeignKey("organization.id")),
    required("domain_id", Uuid, ForeignKey("mtls_trust_domain.id")),
    required("name", String),
    required("type", String),
    required("description", String, server_default=""),
    required("listener", String, server_default=""),  # where it listens: host:port
    required("hosts", ARRAY(String), server_default="{}"),  # host names it answers for
    required("mode", String),  # off, permissive, enforce
    required("mode_since", Moment),
    optional("permissive_until", Moment),
    optional("ip_rule", ARRAY(String)),  # networks that are allowed, all others denied; null: no such rule
    optional("policy_id", Uuid, ForeignKey("mtls_policy.id")),
    required("revocation_source", String),  # live, crl, ocsp
    required("refresh_seconds", Integer),
    required("forward", ARRAY(String), server_default="{}"),  # headers that go upstream
    required("fail_mode", String),  # closed, open
    optional("token_hash", Octets),
    optional("token_made_at", Moment),
    optional("rendered_at", Moment),  # when its configuration was made last, from these CA certificates (SHA-256, hex)
    required("rendered_trust", ARRAY(String), server_default="{}"),
    required("rendered_settings", String, server_default=""),  # SHA-256 (hex) of the settings it was made from
    required("created_by", String),
    required("created_at", Moment),
    optional("retired_at", Moment),
    Index(
        "uq_mtls_ingress_organization_id_name",
        "organization_id",
        "name",
        unique=True,
        postgresql_where=text("retired_at IS NULL"),
    ),
    Index("uq_mtls_ingress_token_hash", "token_hash", unique=True, postgresql_where=text("token_hash IS NOT NULL")),
    Index("ix_mtls_ingress_domain_id", "domain_id"),
)

#: Who let what happen to an ingress, and requests that wait for a second person.
ingress_request = Table(
    "mtls_ingress_request",
    metadata,
    required("id", Uuid, primary_key=True),
    required("ingress_id", Uuid, ForeignKey("mtls_ingress.id", ondelete="CASCADE")),
    required("kind", String),  # enforce
    required("reason", String),
    required("evidence", Json),  # the readiness report as it was then
    required("state", String),  # pending, approved, rejected, withdrawn
    required("requested_by", String),
    required("requested_at", Moment),
    required("expires_at", Moment),
    optional("decided_by", String),
    optional("decided_at", Moment),
    Index(
        "uq_mtls_ingress_request_pending",
        "ingress_id",
        unique=True,
        postgresql_where=text("state = 'pending'"),
    ),
)
