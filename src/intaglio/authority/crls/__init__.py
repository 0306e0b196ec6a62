"""Certificate revocation lists of the CAs: issued, found again, and when the next one is due."""

from intaglio.authority.crls.issue import issue_crl, issue_if_due
from intaglio.authority.crls.schedule import Due, due_crls
from intaglio.authority.crls.stored import CrlFacts, StoredCrl, latest_crl, latest_facts, prune_crls, prune_entries

__all__ = [
    "CrlFacts",
    "Due",
    "StoredCrl",
    "due_crls",
    "issue_crl",
    "issue_if_due",
    "latest_crl",
    "latest_facts",
    "prune_crls",
    "prune_entries",
]
