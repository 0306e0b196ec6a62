"""Table: private keys."""

from sqlalchemy import Table

from intaglio.db.base import Moment, Octets, String, Uuid, metadata, optional, required

private_key = Table(
    "private_key",
    metadata,
    required("id", Uuid, primary_key=True),
    required("provider", String),  # software, pkcs11:<token>
    required("algorithm", String),
    required("label", String),
    required("public_key", Octets),  # SubjectPublicKeyInfo, DER
    # software: PKCS#8 sealed under the master key; PKCS#11: null, the token holds it under `id`.
    optional("sealed", Octets),
    required("created_at", Moment),
    optional("destroyed_at", Moment),
)
