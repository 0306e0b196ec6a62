"""Tables: private keys, and who holds which master keys."""

from sqlalchemy import ARRAY, Integer, PrimaryKeyConstraint, Table

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

#: Processes that run, as they last reported; not the keys but their ids.
master_key_holder = Table(
    "master_key_holder",
    metadata,
    required("host", String),
    required("data_dir", String),
    required("process", String),  # worker-0, jobs
    required("pid", Integer),
    required("started_at", Moment),
    required("seen_at", Moment),  # by the clock of the database
    required("key_ids", ARRAY(String)),  # hexadecimal, the one that seals first
    PrimaryKeyConstraint("host", "data_dir", "process"),
)
