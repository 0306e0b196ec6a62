"""Status profiles: what an OCSP answer of a status authority says about times, and about certificates it cannot find.

Pure data. A profile fits one kind of source, because only that source knows what the profile tells.
Sources: RFC 6960 sections 2.2, 4.4.4 and 4.4.8.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

#: ``none``: no nextUpdate, newer information is always to be had; ``eight-hours``: exactly that long after thisUpdate;
#: ``source``: the nextUpdate of the CRL.
NextUpdateRule = Literal["none", "eight-hours", "source"]
UnknownRule = Literal["revoked", "good", "unknown"]
#: ``events``: a complete record of everything issued (our own CAs, or the events of a CA gateway).
KnowledgeKind = Literal["events", "crl"]

EIGHT_HOURS = timedelta(hours=8)
#: When a certificate that was never issued counts as revoked, with the reason certificateHold. RFC 6960 section 2.2.
NEVER_ISSUED_SINCE = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class StatusProfile:
    """``archive_cutoff``: answers carry the notBefore of the CA as archive cutoff; ``unknown``: what is said about a
    serial number that the source does not know; ``serial_list``: the source reads a list of all issued serials too."""

    id: str
    next_update: NextUpdateRule
    archive_cutoff: bool
    unknown: UnknownRule
    knowledge: KnowledgeKind
    serial_list: bool = False


PROFILES: dict[str, StatusProfile] = {
    profile.id: profile
    for profile in (
        StatusProfile("basic", "none", False, "revoked", "events"),
        StatusProfile("archiveCutOff", "none", True, "revoked", "events"),
        StatusProfile("nextUpdate", "eight-hours", False, "revoked", "events"),
        StatusProfile("archiveCutOffWithNextUpdate", "eight-hours", True, "revoked", "events"),
        StatusProfile("CRLProfile", "none", False, "good", "crl"),
        StatusProfile("CRLProfileWithArchiveCutOff", "none", True, "good", "crl"),
        StatusProfile("CRLProfileWithNextUpdate", "source", False, "good", "crl"),
        StatusProfile("SNListProfile", "none", False, "unknown", "crl", True),
        StatusProfile("SNListProfileWithArchiveCutOff", "none", True, "unknown", "crl", True),
        StatusProfile("SNListProfileWithNextUpdate", "source", False, "unknown", "crl", True),
    )
}
