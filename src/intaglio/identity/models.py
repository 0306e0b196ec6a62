"""Tables: users, roles, tokens, failed logins."""

from sqlalchemy import ARRAY, Boolean, ForeignKey, Index, Interval, Table, text

from intaglio.db.base import Moment, Octets, String, Uuid, metadata, optional, required

role = Table(
    "role",
    metadata,
    required("name", String, primary_key=True),
    required("description", String, server_default=""),
    required("permissions", ARRAY(String)),
    required("built_in", Boolean, server_default="false"),
    # Role names are unique whatever their case.
    Index("uq_role_name_folded", text("lower(name)"), unique=True),
)

user_account = Table(
    "user_account",
    metadata,
    required("id", Uuid, primary_key=True),
    required("name", String, unique=True),
    required("email", String, server_default=""),
    optional("password_hash", String),
    # A one-time secret (first administrator, reset): hashed like a password, good only for setting a password.
    required("must_change_password", Boolean, server_default="false"),
    optional("secret_expires_at", Moment),
    required("roles", ARRAY(String), server_default="{}"),
    required("disabled", Boolean, server_default="false"),
    required("created_at", Moment),
    optional("last_login_at", Moment),
)

# Attempts by name, whether or not such a user exists, so that a lock does not reveal which names exist.
login_attempt = Table(
    "login_attempt",
    metadata,
    required("name", String, primary_key=True),
    required("attempts", ARRAY(Moment)),
    required("last_at", Moment, index=True),
)

api_token = Table(
    "api_token",
    metadata,
    required("id", Uuid, primary_key=True),
    required("user_id", Uuid, ForeignKey("user_account.id", ondelete="CASCADE"), index=True),
    required("kind", String),  # api, session
    required("name", String),
    required("token_hash", Octets, unique=True),
    # None: every permission of the user; otherwise the intersection with these.
    optional("permissions", ARRAY(String)),
    # The API token with which this one was made; None when a login or the host's operator made it.
    optional("parent_id", Uuid, ForeignKey("api_token.id"), index=True),
    required("created_at", Moment),
    required("expires_at", Moment),
    # The certificate that a session was opened with, and its end; whoever revokes it ends the session.
    optional("certificate_id", Uuid),
    optional("not_beyond", Moment),
    # How long the token was made for, whatever a rotation took from it; sessions have none.
    optional("lifetime", Interval),
    optional("last_used_at", Moment),
    optional("revoked_at", Moment),
    Index("ix_api_token_certificate_id", "certificate_id", postgresql_where=text("certificate_id IS NOT NULL")),
)
