"""What enrolment answers, as JSON-safe values: the same on the console's listener and on the mTLS host."""

from __future__ import annotations

from typing import Any

from intaglio.core.clock import rfc3339
from intaglio.mtls.enrolment.policy import CaFacts, PublicPolicy
from intaglio.mtls.enrolment.sessions import OpenSession
from intaglio.mtls.identities.values import IssuedIdentity
from intaglio.x509.certificates import pem


def policy(found: PublicPolicy) -> dict[str, Any]:
    return {
        "domain": found.domain,
        "organization": found.organization,
        "title": found.title,
        "ca": _ca(found.ca),
        "server_ca": None if found.server_ca is None else _ca(found.server_ca),
        "key_algorithm": found.key_algorithm,
        "key_algorithms": list(found.key_algorithms),
        "validity_days": found.validity_days,
        "p12_variants": list(found.p12_variants),
        "test_url": found.test_url,
        "renew_url": found.renew_url,
    }


def session(opened: OpenSession, key_algorithm: str) -> dict[str, Any]:
    return {
        "session": opened.token,
        "identity": opened.identity.name,
        "email": opened.email,
        "nonce": opened.nonce,
        "key_algorithm": key_algorithm,
        "expires_at": rfc3339(opened.expires_at),
        "domain": opened.identity.domain.name,
    }


def renewal(opened: OpenSession, key_algorithm: str) -> dict[str, Any]:
    """What a request for a renewal has to say. The certificate stands for the session, so nothing else opens it."""
    found = session(opened, key_algorithm)
    del found["session"]
    return found


def certificate(issued: IssuedIdentity) -> dict[str, Any]:
    return {
        "certificate": pem(issued.certificate),
        "chain": [pem(each) for each in issued.chain],
        "serial": issued.serial.hex().upper(),
        "identity": issued.identity.name,
        "not_before": rfc3339(issued.not_before),
        "not_after": rfc3339(issued.not_after),
    }


def _ca(found: CaFacts) -> dict[str, str]:
    return {"subject": found.subject, "sha256": found.sha256}
