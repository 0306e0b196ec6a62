"""Tables of the client credentials for our own calls to others."""

from sqlalchemy import ForeignKey, Index, Table, UniqueConstraint

from intaglio.db.base import Moment, Octets, String, Uuid, metadata, optional, required

#: One partner interface that is called with a client certificate.
outbound = Table(
    "mtls_outbound",
    metadata,
    required("id", Uuid, primary_key=True),
    required("organization_id", Uuid, ForeignKey("organization.id")),
    required("name", String),
    required("title", String, server_default=""),
    required("host_pattern", String),  # api.example.com or *.example.com
    required("server_ca", String, server_default=""),  # PEM; empty: those the system trusts
    required("sni", String, server_default=""),  # empty: the host
    required("minimum_tls", String, server_default="1.2"),
    required("state", String),  # draft, active, rotating, retired
    required("created_by", String),
    required("created_at", Moment),
    optional("retired_at", Moment),
    UniqueConstraint("organization_id", "name"),
)

#: A key with its certificate; several of one partner interface overlap while it is rotated.
outbound_credential = Table(
    "mtls_outbound_credential",
    metadata,
    required("id", Uuid, primary_key=True),
    required("outbound_id", Uuid, ForeignKey("mtls_outbound.id")),
    required("state", String),  # requested, ready, current, superseded, retired
    required("private_key_id", Uuid, ForeignKey("private_key.id")),
    optional("request", Octets),  # PKCS #10, DER
    optional("certificate", Octets),
    optional("chain", Octets),  # concatenated DER, issuer first
    optional("not_before", Moment),
    optional("not_after", Moment),
    required("created_by", String),
    required("created_at", Moment),
    optional("activated_at", Moment),
    Index("ix_mtls_outbound_credential_outbound_id", "outbound_id"),
    Index("ix_mtls_outbound_credential_not_after", "not_after"),
)

#: Who outside holds which certificate of ours.
outbound_trust = Table(
    "mtls_outbound_trust",
    metadata,
    required("id", Uuid, primary_key=True),
    required("credential_id", Uuid, ForeignKey("mtls_outbound_credential.id")),
    required("api", String),
    required("contact", String, server_default=""),
    required("sha256", Octets),  # of the certificate that was shared
    required("shared_by", String),
    required("shared_at", Moment),
    optional("confirmed_by", String),
    optional("confirmed_at", Moment),
    Index("ix_mtls_outbound_trust_credential_id", "credential_id"),
)
