"""Tables that all enrolment protocols share."""

from sqlalchemy import (
    ARRAY,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    Table,
    UniqueConstraint,
    text,
)

from intaglio.db.base import Json, Moment, Octets, String, Uuid, metadata, optional, required

#: A partition of enrolment with endpoints, credentials and requests of its own; part of URLs, case counts.
tenant = Table(
    "enrollment_tenant",
    metadata,
    required("id", Uuid, primary_key=True),
    required("name", String, unique=True),
    required("description", String, server_default=""),
    required("created_by", String),
    required("created_at", Moment),
)

#: A place at which certificates are asked for. A change of it moves the configuration epoch.
endpoint = Table(
    "enrollment_endpoint",
    metadata,
    required("id", Uuid, primary_key=True),
    required("protocol", String),
    required("name", String),
    required("tenant_id", Uuid, ForeignKey("enrollment_tenant.id")),
    required("ca_id", Uuid, ForeignKey("ca.id")),
    required("profile", String),
    required("enabled", Boolean, server_default=text("true")),
    required("approval", String, server_default="automatic"),  # automatic, manual
    required("networks", ARRAY(String), server_default="{}"),
    optional("hourly_limit", Integer),  # certificates; null: no limit
    required("options", Json),  # the options of its protocol, without what the master key seals
    required("version", Integer, server_default="1"),
    required("created_by", String),
    required("created_at", Moment),
    required("changed_at", Moment),
    UniqueConstraint("protocol", "name"),
    UniqueConstraint("protocol", "tenant_id", "ca_id", "profile"),
    CheckConstraint("approval IN ('automatic', 'manual')", name="approval"),
    Index("ix_enrollment_endpoint_tenant_id", "tenant_id"),
    Index("ix_enrollment_endpoint_ca_id", "ca_id"),
)

#: What somebody may ask with: a password, a shared secret, a challenge.
credential = Table(
    "enrollment_credential",
    metadata,
    required("id", Uuid, primary_key=True),
    required("endpoint_id", Uuid, ForeignKey("enrollment_endpoint.id", ondelete="CASCADE")),
    required("kind", String),  # password, mac, eab, challenge, one-time, derived, webhook
    required("name", String),
    optional("verifier", String),  # of a password: Argon2id
    optional("digest", Octets),  # of a challenge: HMAC under the key of the installation
    optional("sealed", Octets),  # of a secret that is needed itself, under the master key
    required("bound", Json, server_default="{}"),  # what it may ask for
    optional("uses_left", Integer),  # null: any number
    optional("transaction", String),  # a one-time challenge: who used it
    optional("not_after", Moment),
    required("created_by", String),
    required("created_at", Moment),
    optional("used_at", Moment),
    UniqueConstraint("endpoint_id", "kind", "name"),
    Index(
        "uq_enrollment_credential_digest",
        "endpoint_id",
        "digest",
        unique=True,
        postgresql_where=text("digest IS NOT NULL"),
    ),
    Index("ix_enrollment_credential_not_after", "not_after", postgresql_where=text("not_after IS NOT NULL")),
)

#: A request that waits, or waited, for somebody's approval.
request = Table(
    "enrollment_request",
    metadata,
    required("id", Uuid, primary_key=True),
    required("endpoint_id", Uuid, ForeignKey("enrollment_endpoint.id", ondelete="CASCADE")),
    required("key", String),  # by which the protocol knows it
    required("digest", Octets),  # of what is asked for: the same key with another wish is another request
    required("state", String),  # pending, approved, rejected, issued, expired
    required("application", Json),
    required("applicant", String),
    required("method", String),
    required("source", String),
    required("subject", String),
    required("sans", ARRAY(String)),
    required("note", String, server_default=""),
    required("created_at", Moment),
    required("expires_at", Moment),
    optional("decided_by", String),
    optional("decided_at", Moment),
    required("reason", String, server_default=""),
    optional("certificate_id", Uuid),
    UniqueConstraint("endpoint_id", "key"),
    Index("ix_enrollment_request_state_expires_at", "state", "expires_at"),
)

#: How often something happened in a period, over all processes.
counter = Table(
    "enrollment_counter",
    metadata,
    required("name", String, primary_key=True),
    required("since", Moment),
    required("count", Integer),
    required("expires_at", Moment, index=True),
)

#: Keys of this installation for enrolment, sealed under the master key.
secret = Table(
    "enrollment_secret",
    metadata,
    required("name", String, primary_key=True),
    required("sealed", Octets),
)
