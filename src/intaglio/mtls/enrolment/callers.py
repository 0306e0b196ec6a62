"""Who comes to the enrolment listener with a certificate, or why the certificate makes him nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from intaglio.core import clock
from intaglio.core.clock import rfc3339
from intaglio.core.errors import Forbidden, IntaglioError, Unauthenticated
from intaglio.mtls.access.configuration import IngressView
from intaglio.mtls.access.observed import event_of
from intaglio.mtls.access.trust import Trust
from intaglio.mtls.access.values import NO_INGRESS, CertificateFacts, Decision, Facts, ReasonCode
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import registry
from intaglio.mtls.identities.bindings import Binding, binding_of_certificate
from intaglio.mtls.identities.values import CertifiedIdentity, Identity

#: What the enrolment listener is called in access events; it is no ingress that anybody registers.
NAME = "enrolment"
_TLS_VERSIONS = {0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}

#: What somebody can do about a certificate that does not count.
_REMEDIES: Mapping[ReasonCode, str] = {
    ReasonCode.NO_CERTIFICATE: "Install your certificate, restart the browser and choose it when asked.",
    ReasonCode.SELF_SIGNED: "Enrol with a security code; a certificate that one signs oneself proves nothing.",
    ReasonCode.UNKNOWN_CA: "Choose the certificate that was issued here, or enrol with a security code.",
    ReasonCode.WRONG_ENVIRONMENT: "Choose the certificate of this environment.",
    ReasonCode.EXPIRED: "Ask your administrator for a new security code and enrol again.",
    ReasonCode.NOT_YET_VALID: "Check the clock of your device; a new certificate is valid at once.",
    ReasonCode.REVOKED: "Ask your administrator for a new security code and enrol again.",
    ReasonCode.STATUS_UNAVAILABLE: "Try again in a moment.",
    ReasonCode.BAD_PURPOSE: "Choose a certificate for client authentication.",
    ReasonCode.WEAK_KEY: "Enrol again with a stronger key.",
    ReasonCode.BAD_SIGNATURE: "Choose the certificate that was issued here, or enrol with a security code.",
}


@dataclass(frozen=True)
class Presented:
    """The TLS side of a connection: certificates as presented (leaf first) and what the handshake said of them."""

    chain: tuple[bytes, ...] = field(repr=False)
    error: str
    source: str
    tls_version: str

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> Presented:
        """From the TLS extension of an ASGI scope. What was only observed is judged like what was verified."""
        tls: Mapping[str, Any] = scope.get("extensions", {}).get("tls") or {}
        chain = tls.get("client_chain_der") or tls.get("observed_chain_der") or ()
        client = scope.get("client")
        return cls(
            tuple(chain),
            str(tls.get("client_cert_error") or ""),
            str(client[0]) if client else "",
            _TLS_VERSIONS.get(tls.get("tls_version") or 0, ""),
        )


@dataclass(frozen=True)
class Seen:
    """A certificate that passed every check, and whom it was made out to."""

    certified: CertifiedIdentity
    certificate: CertificateFacts
    presented: Presented


async def judge(mtls: Mtls, presented: Presented) -> Decision:
    """What the certificate is worth in the trust domain that it names, or else in any; an access event says so.

    Raises Unavailable while no configuration was ever read.
    """
    configuration = await mtls.decider.configuration()
    facts = Facts(
        ingress=NO_INGRESS.id,
        source_ip=presented.source,
        at=clock.now(),
        presented=presented.chain,
        tls_version=presented.tls_version,
    )
    trusts = [*configuration.trusts.values()] or [Trust("", "", {})]
    decisions = [await mtls.decider.decide_at(_place(trust), facts) for trust in trusts]
    decision = next((each for each in decisions if each.reason is None), None) or _nearest(decisions)
    event = event_of(facts, decision, kind="handshake")
    mtls.events.record(replace(event, organization_id=None, ingress_id=None, ingress=NAME))
    return decision


def require(decision: Decision, presented: Presented) -> Seen:
    """Who was seen. Raises Unauthenticated with the reason code where the certificate does not count.

    A status that cannot be looked up counts as bad, always.
    """
    if decision.reason is not None or decision.identity is None or decision.certificate is None:
        raise refusal(decision)
    return Seen(decision.identity, decision.certificate, presented)


def refusal(decision: Decision) -> IntaglioError:
    """The reason code as an answer."""
    reason = decision.reason or ReasonCode.UNKNOWN_CA
    kind = Forbidden if decision.status == 403 else Unauthenticated
    detail = decision.detail or "The certificate names no identity of this platform."
    extra: dict[str, Any] = {}
    if (shown := decision.certificate) is not None:
        extra["certificate"] = {
            "subject": shown.subject,
            "issuer": shown.issuer,
            "serial": shown.serial.hex().upper(),
            "not_before": rfc3339(shown.not_before),
            "not_after": rfc3339(shown.not_after),
        }
    return kind(detail, code=reason.value, remedy=_REMEDIES.get(reason, ""), extra=extra)


async def registered(mtls: Mtls, seen: Seen) -> tuple[Identity, Binding]:
    """The registry's side of who was seen. Raises Forbidden for one who is suspended, retired or not bound."""
    async with mtls.database.read() as view:
        binding = await binding_of_certificate(view, seen.certificate.fingerprint)
        if binding is None:
            raise Forbidden(
                "The certificate is bound to no identity of the registry.",
                code="binding-unknown",
                remedy="Ask your administrator for a security code and enrol again.",
            )
        identity = await registry.load_identity(view, binding.identity_id)
    registry.require_active(identity)
    return identity, binding


def whoami(seen: Seen) -> dict[str, Any]:
    """What the server recognised, for the person to see."""
    who, shown = seen.certified, seen.certificate
    return {
        "identity": who.name,
        "kind": who.kind.value,
        "email": who.email,
        "uri": who.uri,
        "domain": who.domain,
        "environment": who.environment,
        "team": who.team,
        "service": who.service,
        "roles": list(who.roles),
        "version": who.version,
        "serial": shown.serial.hex().upper(),
        "issuer": shown.issuer,
        "subject": shown.subject,
        "not_before": rfc3339(shown.not_before),
        "not_after": rfc3339(shown.not_after),
        "sha256": shown.fingerprint.hex(":").upper(),
        "source": seen.presented.source,
        "tls_version": seen.presented.tls_version,
    }


def _place(trust: Trust) -> IngressView:
    """The enrolment listener as an ingress of a trust domain: every valid certificate, no policy, fail closed."""
    return IngressView(
        id=NO_INGRESS,
        type="own",
        mode="enforce",
        permissive_until=None,
        domain=trust.domain,
        environment=trust.environment,
        trust=trust,
        ip_rule=None,
        policy=None,
        denies=False,
        fail_open=False,
        forward=frozenset(),
        hosts=(),
        revocation_source="live",
        refresh_seconds=0,
        token_hash=None,
    )


def _nearest(decisions: Sequence[Decision]) -> Decision:
    """Of several refusals the one that says most: where its CA is at home, it is not just a stranger."""
    return min(decisions, key=lambda each: _DISTANCE.get(each.reason, 0))


def _ranks(*groups: Iterable[ReasonCode]) -> dict[ReasonCode | None, int]:
    return {reason: rank for rank, group in enumerate(groups, 1) for reason in group}


_DISTANCE = _ranks(
    [ReasonCode.BAD_SIGNATURE], [ReasonCode.WRONG_ENVIRONMENT], [ReasonCode.SELF_SIGNED, ReasonCode.UNKNOWN_CA]
)
