"""Tables of the certificate authority floor."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    UniqueConstraint,
    text,
)

from intaglio.db.base import Json, Moment, Octets, String, Uuid, metadata, optional, required
from intaglio.db.journal import Stream

organization = Table(
    "organization",
    metadata,
    required("id", Uuid, primary_key=True),
    required("name", String),
    required("join_policy", String, server_default="approval"),  # approval, open, invite
    required("description", String, server_default=""),
    required("created_by", String),
    required("created_at", Moment),
    # Kept as a tombstone: the URLs in certificates of its deleted CAs carry its name.
    optional("deleted_at", Moment),
    Index("uq_organization_name", "name", unique=True, postgresql_where=text("deleted_at IS NULL")),
)

organization_member = Table(
    "organization_member",
    metadata,
    required("organization_id", Uuid, ForeignKey("organization.id", ondelete="CASCADE")),
    required("user_name", String),
    required("state", String),  # member, requested, invited
    required("since", Moment),
    PrimaryKeyConstraint("organization_id", "user_name"),
)

ca = Table(
    "ca",
    metadata,
    required("id", Uuid, primary_key=True),
    required("organization_id", Uuid, ForeignKey("organization.id")),
    required("name", String),  # the CA id of the user: unique in its organization, also after deletion while reserved
    required("kind", String),  # root, external-root, issuing, client (client credentials of an organization), platform
    # creating, awaiting-certificate, active, failed, deleted (tombstone: keeps id, final CRL, certificates)
    required("state", String),
    required("label", String, server_default=""),
    optional("issuer_id", Uuid, ForeignKey("ca.id")),
    optional("key_algorithm", String),
    optional("ocsp_key_algorithm", String),  # null: OCSP not enabled when the CA was created
    required("subject", String),
    required("subject_der", Octets),
    required("profiles", ARRAY(String), server_default="{}"),
    optional("requested_not_after", Moment),
    required("generation", Integer, server_default="0"),  # the current key generation, 0 = no key yet
    required("options", Json),  # CRL interval and validity, delta, partitions, issue on revocation, limits (CaOptions)
    required("created_by", String),
    required("created_at", Moment),
    optional("deleted_at", Moment),
    optional("reserved_until", Moment),
    # A name is taken while its CA is not deleted; a deleted one blocks it through reserved_until (see the service).
    Index(
        "uq_ca_organization_id_name",
        "organization_id",
        "name",
        unique=True,
        postgresql_where=text("state <> 'deleted'"),
    ),
)

#: Keys of a CA: re-keying adds a generation, the old one keeps signing CRLs and OCSP for what it issued.
ca_key = Table(
    "ca_key",
    metadata,
    required("ca_id", Uuid, ForeignKey("ca.id")),
    required("generation", Integer),
    optional("key_id", Uuid, ForeignKey("private_key.id")),  # null: external root
    required("spki", Octets),
    required("key_identifier", Octets),  # the SKI of its certificate, copied into what it issues
    required("issuer_key_sha1", Octets),  # OCSP CertID.issuerKeyHash
    required("issuer_key_sha256", Octets),
    required("state", String),  # pending, current, previous, destroyed
    required("created_at", Moment),
    PrimaryKeyConstraint("ca_id", "generation"),
)

#: Certificates of a CA's keys; renewing adds one to the same generation.
ca_certificate = Table(
    "ca_certificate",
    metadata,
    required("id", Uuid, primary_key=True),
    required("ca_id", Uuid, ForeignKey("ca.id")),
    required("generation", Integer),
    required("serial", Octets),
    required("der", Octets),
    required("fingerprint", Octets),
    required("not_before", Moment),
    required("not_after", Moment),
    required("current", Boolean),
    required("created_at", Moment),
    Index("ix_ca_certificate_ca_id", "ca_id", "generation"),
)

#: An outstanding CSR of an issuing CA that waits for its certificate (external root, or renewal under one).
ca_request = Table(
    "ca_request",
    metadata,
    required("ca_id", Uuid, ForeignKey("ca.id"), primary_key=True),
    required("generation", Integer),
    required("csr", Octets),
    required("created_at", Moment),
)

#: Delegated OCSP signers, one current per CA key generation.
ocsp_signer = Table(
    "ocsp_signer",
    metadata,
    required("id", Uuid, primary_key=True),
    required("ca_id", Uuid, ForeignKey("ca.id")),
    required("generation", Integer),
    required("key_id", Uuid, ForeignKey("private_key.id")),
    required("certificate_id", Uuid),  # its row in `certificate`, where it may be revoked like any other
    required("certificate", Octets),
    required("not_before", Moment),
    required("not_after", Moment),
    required("current", Boolean),
    Index("uq_ocsp_signer_ca_id", "ca_id", "generation", unique=True, postgresql_where=text("current")),
)

certificate = Table(
    "certificate",
    metadata,
    required("id", Uuid, primary_key=True),
    # No foreign key: rows of `ca` are never removed (deletion leaves a tombstone), and the check would cost a row lock
    # on the CA for every certificate.
    required("ca_id", Uuid),
    required("generation", Integer),
    required("partition", SmallInteger, server_default="0"),  # the CRL partition named in the certificate, 0 = whole
    required("serial", Octets),  # minimal big-endian
    required("subject", String),  # RFC 4514, for people
    required("subject_key", Octets),  # Name.key, for comparing
    required("sans", ARRAY(String)),  # "dns:www.example", "ip:..." for people and search
    required("profile", String),
    required("not_before", Moment),
    required("not_after", Moment),
    required("issued_at", Moment),
    required("spki_sha256", Octets),
    required("der", Octets),
    required("status", String, server_default="valid"),  # valid, held, revoked
    optional("revoked_at", Moment),
    optional("reason", SmallInteger),  # CRLReason
    optional("invalidity_date", Moment),
    optional("previous_id", Uuid),  # the certificate this one renews or reissues
    required("requester", String),
    required("channel", String),
    required("properties", Json),  # tracking data of the request
    UniqueConstraint("ca_id", "serial"),
    Index("ix_certificate_subject", "ca_id", "subject_key", "id"),
    Index("ix_certificate_ca", "ca_id", "id"),
    Index("ix_certificate_not_after", "ca_id", "not_after", "id"),
    Index("ix_certificate_status", "ca_id", "status", "id", postgresql_where=text("status <> 'valid'")),
    Index("ix_certificate_spki", "spki_sha256"),
    Index("ix_certificate_subject_text", "subject", postgresql_ops={"subject": "text_pattern_ops"}),
)

#: One narrow row per certificate that is, or until recently was, on a CRL.
revocation = Table(
    "revocation",
    metadata,
    required("ca_id", Uuid, ForeignKey("ca.id")),
    required("serial", Octets),
    required("generation", Integer),
    required("partition", Integer, server_default="0"),
    required("revoked_at", Moment),
    required("not_after", Moment),
    required("entry", Octets),  # DER of the revokedCertificates entry
    optional("removed_at", Moment),  # taken off hold: only on delta CRLs, as removeFromCRL
    PrimaryKeyConstraint("ca_id", "serial"),
    Index("ix_revocation_scope", "ca_id", "generation", "partition", "revoked_at"),
)

crl = Table(
    "crl",
    metadata,
    required("id", Uuid, primary_key=True),
    required("ca_id", Uuid, ForeignKey("ca.id")),
    required("generation", Integer),
    required("partition", Integer),  # 0 = the whole, otherwise 1..n
    required("delta", Boolean),
    required("number", BigInteger),
    optional("base_number", BigInteger),
    required("this_update", Moment),
    required("next_update", Moment),
    required("entries", Integer),
    required("event_seq", BigInteger),  # the last certificate event whose effect this CRL shows
    required("der", Octets),
    required("fingerprint", Octets),
    UniqueConstraint("ca_id", "generation", "partition", "number", "delta"),
    Index("ix_crl_latest", "ca_id", "generation", "partition", "delta", "number"),
)

#: The last CRL number given out per CA key; a row lock here makes numbers monotonic.
crl_counter = Table(
    "crl_counter",
    metadata,
    required("ca_id", Uuid, ForeignKey("ca.id")),
    required("generation", Integer),
    required("number", BigInteger),
    PrimaryKeyConstraint("ca_id", "generation"),
)

#: People and services that hold client credentials of an organization.
ca_user = Table(
    "ca_user",
    metadata,
    required("id", Uuid, primary_key=True),
    required("organization_id", Uuid, ForeignKey("organization.id")),
    required("name", String),
    required("subject", String),
    required("subject_key", Octets),  # Name.key of the credential's subject DN
    required("created_at", Moment),
    UniqueConstraint("organization_id", "name"),
    Index("ix_ca_user_subject_key", "subject_key"),
)

#: What a CA user may do on one CA.
ca_grant = Table(
    "ca_grant",
    metadata,
    required("ca_id", Uuid, ForeignKey("ca.id", ondelete="CASCADE")),
    required("ca_user_id", Uuid, ForeignKey("ca_user.id", ondelete="CASCADE")),
    # administrator (= integrator), auditor (= read-only-integrator), policy-override-tenant, policy-constrained-tenant
    required("right", String),
    required("granted_at", Moment),
    PrimaryKeyConstraint("ca_id", "ca_user_id"),
    Index("ix_ca_grant_ca_user_id", "ca_user_id"),
)

#: Client certificates issued to CA users by their organization's client CA.
client_credential = Table(
    "client_credential",
    metadata,
    required("id", Uuid, primary_key=True),
    required("ca_user_id", Uuid, ForeignKey("ca_user.id", ondelete="CASCADE")),
    required("certificate_id", Uuid, ForeignKey("certificate.id")),
    required("state", String),  # active, revoked, replaced
    required("created_at", Moment),
    Index("ix_client_credential_ca_user_id", "ca_user_id"),
    Index("ix_client_credential_certificate_id", "certificate_id"),
)

certificate_event = Table(
    "certificate_event",
    metadata,
    required("seq", BigInteger, primary_key=True, autoincrement=False),
    required("at", Moment),
    required("ca_id", Uuid),
    required("action", String),  # issued, revoked, held, unheld
    optional("certificate_id", Uuid),
    required("serial", Octets),
    optional("reason", SmallInteger),
    required("detail", Json),
    Index("ix_certificate_event_ca", "ca_id", "seq"),
    Index("ix_certificate_event_ca_at", "ca_id", "at", "seq"),
    # Status changes only: what OCSP caches and CRLs follow, without wading through issuances.
    Index("ix_certificate_event_status", "seq", postgresql_where=text("action <> 'issued'")),
)

#: Answers kept for repeated requests with the same Idempotency-Key.
idempotency = Table(
    "idempotency",
    metadata,
    required("caller", String),
    required("key", String),
    required("request_hash", Octets),
    required("certificate_id", Uuid),
    required("created_at", Moment),
    PrimaryKeyConstraint("caller", "key"),
    Index("ix_idempotency_created_at", "created_at"),
)

#: Custom certificate profiles; every change is a new version, an active one was linted and approved.
custom_profile = Table(
    "custom_profile",
    metadata,
    required("profile_id", String),
    required("version", Integer),
    required("state", String),  # draft, active, retired
    required("declaration", Json),
    required("created_by", String),
    required("created_at", Moment),
    optional("approved_by", String),
    optional("approved_at", Moment),
    PrimaryKeyConstraint("profile_id", "version"),
)

#: Journalled stream of certificate events.
EVENTS = Stream("event_seq", certificate_event)
