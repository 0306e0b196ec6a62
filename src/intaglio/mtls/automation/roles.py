"""What clients of other products call an identity: a role."""

from __future__ import annotations

from intaglio.mtls.identities.values import Identity


def names(identity: Identity, text: str) -> bool:
    """Whether ``text`` is this identity: its name, ``kind:name`` (either with ``@trust-domain``), SPIFFE ID or id."""
    given, at, domain = text.strip().partition("@")
    if at and domain != identity.domain.name:
        return False
    return given in (identity.name, f"{identity.kind}:{identity.name}", identity.uri, str(identity.id))
