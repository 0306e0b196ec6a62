"""Tables: private keys, tokens, and who holds which master keys."""

from sqlalchemy import ARRAY, BigInteger, Boolean, Double, Integer, PrimaryKeyConstraint, Table, text

from intaglio.db.base import Json, Moment, Octets, String, Uuid, metadata, optional, required

private_key = Table(
    "private_key",
    metadata,
    required("id", Uuid, primary_key=True),
    required("provider", String),  # software, pkcs11:<token>
    required("algorithm", String),
    required("label", String),
    required("public_key", Octets),  # SubjectPublicKeyInfo, DER
    # software: PKCS#8 sealed under the master key; PKCS#11: null, or a copy that was kept on purpose.
    optional("sealed", Octets),
    optional("reference", Octets),  # PKCS#11: CKA_ID in the token; null: the octets of `id`
    optional("protection", Json),  # PKCS#11: how the token said it guards the key, when it was made or imported
    required("erasure_due", Boolean, server_default=text("false")),  # PKCS#11: destroyed here, still to be in the token
    required("created_at", Moment),
    optional("destroyed_at", Moment),
)

#: Tokens by PKCS#11 that keys may be kept in.
hsm_token = Table(
    "hsm_token",
    metadata,
    required("name", String, primary_key=True),
    required("module", String),  # a name; paths of libraries are boot settings
    optional("label", String),
    optional("serial", String),
    optional("slot", BigInteger),
    optional("sealed_pin", Octets),
    required("pin_state", String),  # none, unproved, accepted, wrong
    required("sessions", Integer),  # open at a time, per process
    required("timeout", Double),  # seconds
    required("load_sharing", Boolean),
    required("revision", Integer),
    required("created_at", Moment),
    required("changed_at", Moment),
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
