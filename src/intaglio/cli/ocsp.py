"""`intaglio ocsp`: certificate status of any CA: authorities, their sources, their signers, and asking responders."""

from __future__ import annotations

from intaglio.cli import lazy

COMMANDS: lazy.Table = {
    "authority": ("ocsp_authority", "Status authorities: the CAs whose certificates' status is given out."),
    "source": ("ocsp_source", "Where the status comes from, and how reading it is going."),
    "directory": ("ocsp_directory", "Directories (LDAP) that CRLs are read from."),
    "credential": ("ocsp_credential", "Client certificates for gateways whose events are read."),
    "signer": ("ocsp_signer", "Keys and certificates that answers are signed with."),
    "check": ("ocsp_check", "Check sources, signers and the database."),
    "query": ("ocsp_query:query", "Ask an OCSP responder about a certificate."),
    "url": ("ocsp_query:url", "Say where certificates are asked about."),
}

app = lazy.noun(
    COMMANDS,
    "Certificate status (OCSP) of our own and of other CAs: authorities, sources, signers, questions.",
)
