"""Tables: users, roles, API tokens."""

from sqlalchemy import ARRAY, Boolean, ForeignKey, Table

from intaglio.db.base import Moment, Octets, String, Uuid, metadata, optional, required

role = Table(
    "role",
    metadata,
    required("name", String, primary_key=True),
    required("description", String, server_default=""),
    required("permissions", ARRAY(String)),
    required("built_in", Boolean, server_default="false"),
)

user_account = Table(
    "user_account",
    metadata,
    required("id", Uuid, primary_key=True),
    required("name", String, unique=True),
    required("email", String, server_default=""),
    optional("password_hash", String),
    # A one-time secret (first administrator, reset): hashed like a password, good for one login that sets a password.
    required("must_change_password", Boolean, server_default="false"),
    optional("secret_expires_at", Moment),
    required("roles", ARRAY(String), server_default="{}"),
    required("disabled", Boolean, server_default="false"),
    required("created_at", Moment),
    optional("last_login_at", Moment),
    required("failed_logins", ARRAY(Moment), server_default="{}"),
)

api_token = Table(
    "api_token",
    metadata,
    required("id", Uuid, primary_key=True),
    required("user_id", Uuid, ForeignKey("user_account.id", ondelete="CASCADE"), index=True),
    required("name", String),
    required("token_hash", Octets, unique=True),
    # None: every permission of the user; otherwise the intersection with these.
    optional("permissions", ARRAY(String)),
    required("created_at", Moment),
    required("expires_at", Moment),
    optional("last_used_at", Moment),
    optional("revoked_at", Moment),
)
