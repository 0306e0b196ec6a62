"""Tables: live settings and the server identities of listeners."""

from sqlalchemy import BigInteger, Table

from intaglio.db.base import Json, Moment, Octets, String, Uuid, metadata, optional, required

setting = Table(
    "setting",
    metadata,
    required("name", String, primary_key=True),
    required("value", Json),
    required("version", BigInteger),
    required("changed_at", Moment),
    required("changed_by", String),
)

server_identity = Table(
    "server_identity",
    metadata,
    required("listener", String, primary_key=True),  # default, or one listener's name
    required("chain", String),  # PEM, leaf first
    required("sealed_key", Octets),  # PKCS#8 sealed under the master key
    required("origin", String),  # platform (from the platform's own CA), imported
    required("not_after", Moment),
    required("changed_at", Moment),
    optional("certificate_id", Uuid),
)
