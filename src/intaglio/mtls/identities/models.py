"""Tables of trust domains, identities and what binds certificates to them."""

from sqlalchemy import (
    ARRAY,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    text,
)

from intaglio.db.base import Json, Moment, Octets, String, Uuid, metadata, optional, required

trust_domain = Table(
    "mtls_trust_domain",
    metadata,
    required("id", Uuid, primary_key=True),
    required("name", String, unique=True),  # never given out again: certificates and logs name it
    required("environment", String),
    required("organization_id", Uuid, ForeignKey("organization.id")),
    required("title", String, server_default=""),
    required("state", String),  # draft, active, rotating, retired
    optional("issuing_ca_id", Uuid, ForeignKey("ca.id")),
    required("anchor", String, server_default="root"),  # what is trusted: the root, or the issuing CA itself
    required("bundle_version", Integer, server_default="1"),
    required("lifetimes", Json),  # seconds by kind
    required("ceilings", Json),  # seconds by kind
    required("required_attributes", ARRAY(String), server_default="{}"),
    required("dns_suffixes", ARRAY(String), server_default="{}"),
    required("email_domains", ARRAY(String), server_default="{}"),
    required("pki_choice", String, server_default="own"),
    required("created_by", String),
    required("created_at", Moment),
    optional("retired_at", Moment),
    Index("ix_mtls_trust_domain_organization_id", "organization_id"),
    Index("ix_mtls_trust_domain_environment", "environment"),
)

#: The CAs whose certificates count in a trust domain: the one that issues, and earlier ones while it is rotating.
domain_ca = Table(
    "mtls_domain_ca",
    metadata,
    required("domain_id", Uuid, ForeignKey("mtls_trust_domain.id")),
    required("ca_id", Uuid, ForeignKey("ca.id")),
    required("added_at", Moment),
    PrimaryKeyConstraint("domain_id", "ca_id"),
    Index("ix_mtls_domain_ca_ca_id", "ca_id"),
)

identity = Table(
    "mtls_identity",
    metadata,
    required("id", Uuid, primary_key=True),
    required("domain_id", Uuid, ForeignKey("mtls_trust_domain.id")),
    required("kind", String),  # user, device, workload, service, pipeline
    required("name", String),
    required("display_name", String, server_default=""),
    required("email", String, server_default=""),
    required("team", String, server_default=""),
    required("service", String, server_default=""),
    required("roles", ARRAY(String), server_default="{}"),
    required("version", String, server_default=""),
    required("owner", String, server_default=""),
    # The account behind that name when somebody gave it to the identity; without one nobody owns it.
    optional("owner_id", Uuid, ForeignKey("user_account.id", ondelete="SET NULL")),
    required("state", String, server_default="active"),  # active, suspended, retired
    required("dns_names", ARRAY(String), server_default="{}"),
    required("properties", Json),
    required("created_by", String),
    required("created_at", Moment),
    required("changed_at", Moment),
    UniqueConstraint("domain_id", "kind", "name"),
    Index("ix_mtls_identity_domain_id", "domain_id", "id"),
    Index("ix_mtls_identity_owner", "owner", "id"),
    Index("ix_mtls_identity_owner_id", "owner_id"),
    Index("ix_mtls_identity_email", "email"),
    Index("ix_mtls_identity_email_folded", text("lower(email)")),
    Index("ix_mtls_identity_service", "domain_id", "service"),
)

#: Which identity a certificate was issued for. The id is that of the certificate, so there is never more than one.
binding = Table(
    "mtls_binding",
    metadata,
    required("id", Uuid, primary_key=True),
    required("identity_id", Uuid, ForeignKey("mtls_identity.id")),
    required("domain_id", Uuid),
    required("ca_id", Uuid),
    required("ca", String),  # {organization}~{ca}
    required("serial", Octets),
    required("certificate_sha256", Octets),
    required("spki_sha256", Octets),
    required("not_before", Moment),
    required("not_after", Moment),
    required("channel", String),
    optional("code_id", Uuid),
    optional("renews", Uuid, index=True),  # the binding whose certificate asked for this one
    optional("replaced_by", Uuid),  # the last binding that renewed this one
    required("sealed", Octets),  # e-mail address, network address and user agent of the requester
    required("created_at", Moment),
    UniqueConstraint("certificate_sha256"),
    Index("ix_mtls_binding_identity_id", "identity_id", "id"),
    Index("ix_mtls_binding_domain_id", "domain_id", "id"),
    Index("ix_mtls_binding_serial", "ca_id", "serial"),
    Index("ix_mtls_binding_not_after", "not_after", "id"),
)

#: The identity to which a key belongs. A key never serves two.
key_owner = Table(
    "mtls_key_owner",
    metadata,
    required("spki_sha256", Octets, primary_key=True),
    required("identity_id", Uuid, ForeignKey("mtls_identity.id")),
    required("since", Moment),
    Index("ix_mtls_key_owner_identity_id", "identity_id"),
)

#: Secrets of the service itself, made when first needed.
secret = Table(
    "mtls_secret",
    metadata,
    required("name", String, primary_key=True),
    required("sealed", Octets),
    required("created_at", Moment),
)

#: A service trusts the callers of a trust domain.
trust_edge = Table(
    "mtls_trust_edge",
    metadata,
    required("id", Uuid, primary_key=True),
    required("identity_id", Uuid, ForeignKey("mtls_identity.id")),
    required("trusted_domain_id", Uuid, ForeignKey("mtls_trust_domain.id")),
    required("cas", ARRAY(String), server_default="{}"),  # {organization}~{ca}; none: all of the domain
    required("reason", String, server_default=""),
    required("state", String),  # proposed, approved
    required("proposed_by", String),
    required("proposed_at", Moment),
    optional("approved_by", String),
    optional("approved_at", Moment),
    UniqueConstraint("identity_id", "trusted_domain_id"),
    Index("ix_mtls_trust_edge_trusted_domain_id", "trusted_domain_id"),
)

#: Versions of the generated design document of an organization's trust domains.
design_document = Table(
    "mtls_design_document",
    metadata,
    required("organization_id", Uuid, ForeignKey("organization.id")),
    required("version", Integer),
    required("digest", Octets),  # SHA-256 of the data that it shows
    required("content", Json),
    required("created_by", String),
    required("created_at", Moment),
    PrimaryKeyConstraint("organization_id", "version"),
)
