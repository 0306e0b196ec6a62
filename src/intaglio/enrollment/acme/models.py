"""Tables of ACME. Whether an order waits, is ready or has become invalid is not stored: it follows from its
authorizations and from the time, so nothing can be forgotten when one of them changes."""

from sqlalchemy import (
    ARRAY,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Index,
    SmallInteger,
    Table,
    UniqueConstraint,
    text,
)

from intaglio.db.base import Json, Moment, Octets, String, Uuid, metadata, optional, required

account = Table(
    "acme_account",
    metadata,
    required("id", Uuid, primary_key=True),
    required("endpoint_id", Uuid, ForeignKey("enrollment_endpoint.id", ondelete="CASCADE")),
    required("status", String),  # valid, deactivated (by its holder), revoked (by an administrator)
    required("jwk", String),  # the required members, as they are hashed for the thumbprint
    required("thumbprint", Octets),
    required("contacts", ARRAY(String), server_default="{}"),
    optional("terms", String),  # the terms of service that were agreed to
    optional("external_account", Uuid),  # the credential it was bound with, which may be gone
    optional("external_name", String),
    required("bound", Json, server_default="{}"),  # what that credential may ask for
    required("source", String),
    required("created_at", Moment),
    required("changed_at", Moment),
    # RFC 8555 section 7.3: one key, one account.
    UniqueConstraint("endpoint_id", "thumbprint"),
    CheckConstraint("status IN ('valid', 'deactivated', 'revoked')", name="status"),
    Index(
        "ix_acme_account_external_account",
        "external_account",
        postgresql_where=text("external_account IS NOT NULL"),
    ),
)

authorization = Table(
    "acme_authorization",
    metadata,
    required("id", Uuid, primary_key=True),
    required("account_id", Uuid, ForeignKey("acme_account.id", ondelete="CASCADE")),
    required("kind", String),  # dns, ip
    required("value", String),  # without "*."
    required("wildcard", Boolean),
    required("status", String),  # pending, valid, invalid, deactivated; expired follows from the time
    required("challenges", ARRAY(String)),  # the methods that are offered
    required("token", String),
    required("created_at", Moment),
    required("expires_at", Moment),
    optional("method", String),  # the challenge that was taken up
    optional("validated_at", Moment),
    optional("error", Json),  # problem document
    optional("holder", Uuid),  # the process that validates it,
    optional("held_until", Moment),  # for as long as it was last heard of
    CheckConstraint("status IN ('pending', 'valid', 'invalid', 'deactivated')", name="status"),
    CheckConstraint("kind IN ('dns', 'ip')", name="kind"),
    Index("ix_acme_authorization_account_id", "account_id", "value", "status"),
    Index("ix_acme_authorization_expires_at", "expires_at"),
    Index(
        "ix_acme_authorization_held_until",
        "held_until",
        postgresql_where=text("status = 'pending' AND method IS NOT NULL"),
    ),
)

order = Table(
    "acme_order",
    metadata,
    required("id", Uuid, primary_key=True),
    required("account_id", Uuid, ForeignKey("acme_account.id", ondelete="CASCADE")),
    required("state", String),  # open (pending or ready), processing, valid, invalid
    required("identifiers", ARRAY(String)),  # dns:www.example, ip:192.0.2.1
    required("authorizations", ARRAY(Uuid)),
    required("profile", String),
    optional("not_before", Moment),  # as asked for
    optional("not_after", Moment),
    optional("replaces", Uuid),  # certificate
    required("created_at", Moment),
    required("expires_at", Moment),
    optional("request", Octets),  # PKCS #10, from the moment it is finalized
    required("source", String, server_default=""),  # from which address
    optional("holder", Uuid),  # the process that gets the certificate,
    optional("held_until", Moment),  # and when another one may try
    required("waits", Boolean, server_default=text("false")),  # for somebody's approval
    optional("error", Json),  # problem document
    optional("certificate_id", Uuid),
    CheckConstraint("state IN ('open', 'processing', 'valid', 'invalid')", name="state"),
    CheckConstraint("(state = 'valid') = (certificate_id IS NOT NULL)", name="certificate"),
    Index("ix_acme_order_account_id", "account_id", "id"),
    Index("ix_acme_order_expires_at", "expires_at"),
    Index("ix_acme_order_held_until", "held_until", postgresql_where=text("state = 'processing'")),
    Index("ix_acme_order_certificate_id", "certificate_id", postgresql_where=text("certificate_id IS NOT NULL")),
    Index("ix_acme_order_replaces", "replaces", postgresql_where=text("replaces IS NOT NULL")),
)

#: One row: the key under which nonces are made. It lives and dies with the used ones.
nonce_key = Table(
    "acme_nonce_key",
    metadata,
    required("id", SmallInteger, primary_key=True, autoincrement=False),
    required("name", Octets),
    required("key", Octets),
    CheckConstraint("id = 1", name="single"),
    prefixes=["UNLOGGED"],
)

#: Nonces that were used and are not too old yet.
nonce = Table(
    "acme_nonce",
    metadata,
    required("nonce", Octets, primary_key=True),
    required("expires_at", Moment, index=True),
    prefixes=["UNLOGGED"],
)
