"""Tables of automatic issuance: bootstrap tokens, tokens of the Vault-compatible interface, pipelines."""

from sqlalchemy import ARRAY, Boolean, ForeignKey, Index, Integer, PrimaryKeyConstraint, Table

from intaglio.db.base import Json, Moment, Octets, String, Uuid, metadata, optional, required

#: What an identity without a certificate proves itself with. Only a hash is kept.
bootstrap = Table(
    "mtls_bootstrap_token",
    metadata,
    required("id", Uuid, primary_key=True),
    required("handle", String, unique=True),  # the first symbols: they find the row and prove nothing
    required("token_hash", Octets),
    required("identity_id", Uuid, ForeignKey("mtls_identity.id")),
    required("purpose", String),  # sign: a certificate each; approle: logins of the Vault-compatible interface
    optional("max_uses", Integer),  # null: any number until it expires
    required("uses", Integer, server_default="0"),
    required("failures", Integer, server_default="0"),
    required("networks", ARRAY(String), server_default="{}"),  # where it may be used from; none: anywhere
    required("note", String, server_default=""),
    required("created_by", String),
    required("created_at", Moment),
    required("expires_at", Moment),
    optional("used_at", Moment),
    optional("locked_at", Moment),
    optional("revoked_at", Moment),
    Index("ix_mtls_bootstrap_token_identity_id", "identity_id", "id"),
    Index("ix_mtls_bootstrap_token_expires_at", "expires_at"),
)

#: Which key a bootstrap token was spent on: the same request again is the same use.
bootstrap_use = Table(
    "mtls_bootstrap_use",
    metadata,
    required("token_id", Uuid, ForeignKey("mtls_bootstrap_token.id", ondelete="CASCADE")),
    required("spki_sha256", Octets),
    required("at", Moment),
    PrimaryKeyConstraint("token_id", "spki_sha256"),
)

#: Logins of the Vault-compatible interface.
login = Table(
    "mtls_login",
    metadata,
    required("id", Uuid, primary_key=True),
    required("token_hash", Octets, unique=True),
    required("accessor", String, unique=True),
    required("identity_id", Uuid, ForeignKey("mtls_identity.id")),
    required("method", String),  # cert, approle, jwt
    # What the login rests on; when that ends, the login ends.
    optional("binding_id", Uuid),
    optional("bootstrap_id", Uuid),
    optional("pipeline_id", Uuid),
    optional("longest", Integer),  # seconds a certificate may live
    optional("not_beyond", Moment),  # no certificate may outlive this
    required("source", String),
    required("created_at", Moment),
    required("seconds", Integer),  # how long it lives from each renewal on
    required("expires_at", Moment),
    required("ends_at", Moment),  # no renewal goes beyond
    optional("revoked_at", Moment),
    Index("ix_mtls_login_identity_id", "identity_id"),
    Index("ix_mtls_login_expires_at", "expires_at"),
)

#: Which tokens of which issuer prove which identity.
pipeline = Table(
    "mtls_pipeline",
    metadata,
    required("id", Uuid, primary_key=True),
    required("name", String, unique=True),
    required("identity_id", Uuid, ForeignKey("mtls_identity.id")),
    required("issuer", String),
    required("jwks_url", String, server_default=""),  # empty: as the issuer's discovery document says
    required("issuer_ca", String, server_default=""),  # PEM; empty: the system's trust anchors
    required("audience", String),
    required("conditions", Json),  # patterns by claim
    required("lifetime", Integer),  # seconds of a certificate: how long a job may take
    required("end_with_token", Boolean, server_default="false"),
    required("token_uses", Integer, server_default="1"),  # how often one token counts; 0: until it expires
    required("version", Integer, server_default="1"),
    required("created_by", String),
    required("created_at", Moment),
    required("changed_at", Moment),
    optional("used_at", Moment),
    required("uses", Integer, server_default="0"),
    Index("ix_mtls_pipeline_identity_id", "identity_id"),
)

#: What identity tokens were used for, until they expire: the same request again is the same use.
pipeline_use = Table(
    "mtls_pipeline_use",
    metadata,
    required("pipeline_id", Uuid, ForeignKey("mtls_pipeline.id", ondelete="CASCADE")),
    required("token_sha256", Octets),
    required("used_for", Octets),  # the key that was to be certified (SHA-256), or something unique for a login
    required("expires_at", Moment),
    PrimaryKeyConstraint("pipeline_id", "token_sha256", "used_for"),
    Index("ix_mtls_pipeline_use_expires_at", "expires_at"),
)
