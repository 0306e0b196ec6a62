"""Tables of enrolment by security code: codes, sessions, counted attempts, secrets, sent reminders."""

from sqlalchemy import ARRAY, ForeignKey, Index, Integer, SmallInteger, Table

from intaglio.db.base import Moment, Octets, String, Uuid, metadata, optional, required

code = Table(
    "mtls_code",
    metadata,
    required("id", Uuid, primary_key=True),
    required("handle", String, unique=True),  # the first symbols of the code: they find the row and prove nothing
    required("code_hash", Octets),  # HMAC under the server key; the code itself is kept nowhere
    required("organization", String, index=True),
    required("domain", String),
    required("identity_id", Uuid, index=True),
    required("identity", String),
    required("emails", ARRAY(String)),
    optional("validity_days", Integer),  # of the certificate; null: as the settings say
    required("max_uses", SmallInteger),
    required("uses", SmallInteger, server_default="0"),
    required("created_by", String),
    required("created_at", Moment),
    required("expires_at", Moment),
    required("note", String, server_default=""),
    required("by_mail", String, server_default=""),  # the address it goes to once it is approved
    optional("approval_by", String),
    optional("approved_at", Moment),  # null: waits for a second person
    optional("delivered_at", Moment),
    optional("locked_at", Moment),
    optional("revoked_at", Moment),
    optional("used_at", Moment),
    Index("ix_mtls_code_expires_at", "expires_at"),
)

#: One attempt to enrol or renew, of ten minutes. What opens it is kept as a hash.
session = Table(
    "mtls_session",
    metadata,
    required("id", Uuid, primary_key=True),
    required("token_hash", Octets, unique=True),
    # The security code, or for a renewal the binding of the certificate that renews itself.
    optional("code_id", Uuid, ForeignKey("mtls_code.id", ondelete="CASCADE"), index=True),
    optional("renews", Uuid, index=True),
    required("identity_id", Uuid, index=True),
    required("identity", String),
    required("email", String),
    required("nonce", String),
    required("state", String),  # details, csr-received, issued, downloaded, failed, timed-out
    optional("reason", String),  # why it failed
    required("source", String),
    required("user_agent", String, server_default=""),
    required("created_at", Moment),
    required("expires_at", Moment, index=True),
    optional("csr_sha256", Octets),  # the one request this session stands for, from its first acceptance on
    optional("working_until", Moment),  # somebody issues for it at this moment
    optional("binding_id", Uuid),
    optional("finished_at", Moment),
)

#: Counters of what an address or the first symbols of a code did in a span of time, whoever counts.
attempt = Table(
    "mtls_attempt",
    metadata,
    required("subject", String, primary_key=True),
    required("since", Moment, index=True),
    required("count", Integer),
)

#: Passwords that an administrator set for this room, sealed under the master key.
secret = Table(
    "mtls_enrolment_secret",
    metadata,
    required("name", String, primary_key=True),
    required("sealed", Octets),
    required("changed_at", Moment),
)

#: Which account of the platform a person's certificates log in to. The person has shown both at once: the account and
#: the certificate of this binding. It counts with those that renewed it, and with no other that somebody had issued.
account_login = Table(
    "mtls_account_login",
    metadata,
    required("identity_id", Uuid, ForeignKey("mtls_identity.id"), primary_key=True),
    required("user_id", Uuid, ForeignKey("user_account.id", ondelete="CASCADE"), index=True),
    required("binding_id", Uuid, ForeignKey("mtls_binding.id")),
    required("linked_at", Moment),
)

#: Reminders that were sent: once per certificate and threshold, whichever process looks.
reminder = Table(
    "mtls_reminder",
    metadata,
    required("binding_id", Uuid, primary_key=True),
    required("hours", Integer, primary_key=True, autoincrement=False),
    required("sent_at", Moment),
)
