"""Deciding in process: configuration in memory, judged chains and policy answers remembered, status live.

Everything remembered is keyed by exactly what it was made from (certificates and trust, request and policy version), so
a change of configuration needs no forgetting. Status is never guessed: what the database cannot tell is
``status_unavailable``, unless the ingress was explicitly set to fail open.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise

from intaglio.authority.context import MAX_CLOCK_OFFSET, Authority
from intaglio.authority.live_status import Key, Status, StatusSource
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, InvalidInput, NotFound, TimedOut, Unavailable
from intaglio.core.logging import get_logger
from intaglio.db.listen import Watch
from intaglio.mtls.access.bounded import Bounded
from intaglio.mtls.access.cedar import PolicyRequest
from intaglio.mtls.access.configuration import AccessConfiguration, IngressView, address_of, load_configuration
from intaglio.mtls.access.routes import normalized_host, normalized_path
from intaglio.mtls.access.trust import Trust
from intaglio.mtls.access.values import (
    CertificateFacts,
    Check,
    Decision,
    Facts,
    PolicyOutcome,
    ReasonCode,
)
from intaglio.mtls.access.verdict import Examined, Verdict, examine, reason_of
from intaglio.mtls.identities.attributes import read_identity
from intaglio.mtls.identities.values import CertifiedIdentity

log = get_logger(__name__)

#: Bounds of what is remembered: entries, and how long what is remembered may be.
MOST_CHAINS, LARGEST_CHAIN = 8_192, 8 * 1024
MOST_POLICY_ANSWERS, LONGEST_PATH = 20_000, 256
PATIENCE = 2.0  # seconds a decision waits for a database that was silent lately
_AGE = 1.0  # seconds the configuration is used unread while changes are not heard of
_HASTE = 0.5  # seconds a decision waits to have it read then
_FOLLOW = 0.25  # seconds between looks at what changed, while somebody wants to know
_MOST_NAMES = 20


class Decider:
    """Access decisions of one process. ``watch`` must be running, or nothing is remembered."""

    def __init__(self, authority: Authority, watch: Watch) -> None:
        self._authority = authority
        self._watch = watch
        self._status = StatusSource(authority.database, watch, self._status_changed)
        self._configuration: AccessConfiguration | None = None
        self._loading = asyncio.Lock()
        self._looked = float("-inf")  # when the configuration was read last, or should have been
        self._judged: Bounded[tuple[bytes, tuple[bytes, ...]], Judged] = Bounded(MOST_CHAINS)
        self._answers: Bounded[tuple[object, ...], PolicyOutcome] = Bounded(MOST_POLICY_ANSWERS)
        self._subscribers: list[Callable[[], None]] = []
        self._following: asyncio.Task[None] | None = None

    # ---- for who asks ------------------------------------------------------------------------------------------------

    async def decide(self, facts: Facts) -> Decision:
        """Decide about one connection (without a method: everything but the policy) or request.

        Never raises for what the client did. Raises NotFound (``ingress-unknown``), and Unavailable while no
        configuration was ever read.
        """
        configuration = await self.configuration()
        ingress = configuration.ingresses.get(facts.ingress)
        if ingress is None:
            raise ingress_unknown(facts.ingress)
        return await self.decide_at(ingress, facts)

    async def decide_at(self, ingress: IngressView, facts: Facts) -> Decision:
        """The same for an ingress that was looked up in :meth:`configuration`."""
        ip_allowed = None if ingress.ip_rule is None else ingress.ip_rule.allows(facts.source_ip)
        if ingress.mode == "off":
            return _finished(ingress, facts, ip_allowed, None, None, None, None)
        judged = self.judge(facts.presented, ingress.trust)
        verdict = judged.at(facts.at)
        doubt = _ingress_doubt(facts) if verdict.reason is None else None
        if verdict.reason is None and doubt is None:
            doubt = await self._status_doubt(judged, verdict, ingress)
        policy = None
        if facts.method and verdict.reason is None and (doubt is None or doubt.reason is None):
            policy = self._ask_policy(ingress, judged, facts)
        return _finished(ingress, facts, ip_allowed, judged, verdict, doubt, policy)

    def judge(self, presented: tuple[bytes, ...], trust: Trust) -> Judged:
        """What a chain is worth in a trust domain; only dates and status are left open."""
        key = (trust.version, presented)
        found = self._judged.get(key)
        if found is None:
            found = Judged.of(presented, trust)
            if sum(map(len, presented)) <= LARGEST_CHAIN:
                self._judged.put(key, found)
        return found

    async def configuration(self) -> AccessConfiguration:
        """The configuration of this moment; while the database is silent, the last one that was read.

        While changes are not heard of, yet the database may still answer, it is read once a second. Raises Unavailable
        while none was ever read.
        """
        found, epoch = self._configuration, self._watch.epoch
        if found is not None and epoch >= 0:
            if self._watch.current and found.epoch == epoch:
                return found
            if not self._watch.current and (monotonic() < self._looked + _AGE or self._loading.locked()):
                return found
        return await self._load()

    def subscribe(self, call: Callable[[], None]) -> Callable[[], None]:
        """Have ``call`` called when something changed that may end open connections (status of a certificate, an
        ingress, a policy, trust). Returns what ends the subscription."""
        self._subscribers.append(call)
        if self._following is None:
            self._following = asyncio.get_running_loop().create_task(self._follow(), name="access-changes")
        return lambda: self._subscribers.remove(call)

    async def close(self) -> None:
        """Give the connection back."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        await self._status.close()

    # ---- configuration -----------------------------------------------------------------------------------------------

    async def _load(self) -> AccessConfiguration:
        async with self._loading:
            # Read before the rest: what changes meanwhile is then noticed at the next look.
            epoch, current = self._watch.epoch, self._watch.current
            if self._configuration is not None and current and self._configuration.epoch == epoch >= 0:
                return self._configuration
            try:
                async with asyncio.timeout(None if self._configuration is None or current else _HASTE):
                    snapshot = await self._authority.current()
                    async with self._authority.database.read() as view:
                        self._configuration = await load_configuration(view, snapshot, epoch)
            except (Unavailable, TimedOut, TimeoutError):
                if self._configuration is None:
                    raise
            finally:
                self._looked = monotonic()
            return self._configuration

    async def _follow(self) -> None:
        epoch = self._watch.epoch
        while True:
            await asyncio.sleep(_FOLLOW)
            if not self._status.current:
                with contextlib.suppress(IntaglioError):
                    await self._status.catch_up()
            if self._watch.epoch != epoch:
                epoch = self._watch.epoch
                self._tell()

    def _status_changed(self, keys: object) -> None:
        self._tell()

    def _tell(self) -> None:
        for call in list(self._subscribers):
            try:
                call()
            except Exception:  # a subscriber's own fault must neither stop the others nor a decision
                log.exception("a subscriber could not take in a change")

    # ---- status ------------------------------------------------------------------------------------------------------

    async def _status_doubt(self, judged: Judged, verdict: Verdict, ingress: IngressView) -> Check | None:
        """What is wrong with the status of the certificates in the chain that this platform keeps the status of."""
        if abs(self._authority.clock_offset()) > MAX_CLOCK_OFFSET:
            # One of two clocks that disagree is wrong: nobody can say what has expired.
            return _unavailable(ingress, "The clock of this server and that of its database disagree.")
        for key, generation in judged.status_keys:
            try:
                status = await self._status_of(key)
            except (Unavailable, TimedOut) as error:
                return _unavailable(ingress, f"The status of the certificate cannot be looked up. {error.detail}")
            if not status.known_to(generation):
                # RFC 6960 section 2.2: what was never issued may be answered like what was revoked.
                return Check("status", ReasonCode.REVOKED, "The CA has no record of having issued the certificate.")
            if status.state != "valid":
                return Check("status", ReasonCode.REVOKED, f"The certificate is {status.state}.")
        if not judged.leaf_recorded:
            # Nobody here will ever know: no outage that an ingress may be set to excuse.
            return Check("status", ReasonCode.STATUS_UNAVAILABLE, "Its CA does not keep its records here.")
        return None

    async def _status_of(self, key: Key) -> Status:
        """The status of a certificate. Raises Unavailable, and TimedOut when a silent database keeps us waiting: a door
        at which everybody waits for long is as bad as one that is closed."""
        if not self._status.behind and self._watch.current:
            return await self._status.get(key)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._status.catch_up()
                return await self._status.get(key)
        except TimeoutError:
            raise TimedOut("The database did not answer in time.", code="database-timeout") from None

    # ---- policy ------------------------------------------------------------------------------------------------------

    def _ask_policy(self, ingress: IngressView, judged: Judged, facts: Facts) -> PolicyOutcome | None:
        policy = ingress.policy
        if policy is None:
            return PolicyOutcome("", 0, False) if ingress.denies else None
        path = normalized_path(facts.path)
        if path is None:
            return PolicyOutcome(policy.name, policy.version, False, ("ambiguous path",))
        host = normalized_host(facts.host)
        source = address_of(facts.source_ip) if policy.looks_at_source else None
        key = (ingress.id.id, ingress.trust.version, policy.digest, policy.name, policy.version, judged.fingerprint,
               facts.method, host, path, source, facts.tls_version)  # fmt: skip
        found = self._answers.get(key)
        if found is None:
            found = policy.evaluate(policy_request(ingress, judged, facts, host=host, path=path))
            if len(path) <= LONGEST_PATH and judged.fingerprint:
                self._answers.put(key, found)
        return found


class Judged:
    """A chain judged under one trust, with everything that is told about it, made once.

    ``status_keys`` are the certificates to look up with the key generation that must have issued them;
    ``leaf_recorded`` whether the status of the leaf is kept here at all.
    """

    __slots__ = (
        "_examined", "_from", "_until", "_verdict", "certificate", "chain", "fingerprint", "identity", "issuer",
        "leaf_recorded", "status_keys",
    )  # fmt: skip

    def __init__(self, examined: Examined, identity: CertifiedIdentity | None, trust: Trust) -> None:
        self._examined = examined
        self.identity = identity
        self.certificate = _facts_of(examined)
        self.fingerprint = self.certificate.fingerprint if self.certificate else b""
        self.issuer = examined.issuer.ca if examined.issuer else ""
        self.chain = tuple(each.der for each in examined.chain[:-1])
        self.leaf_recorded = examined.issuer is not None and examined.issuer.recorded
        self.status_keys = _status_keys(examined, trust)
        self._from = max((each.not_before for each in examined.chain), default=_NEVER)
        self._until = min((each.not_after for each in examined.chain), default=_NEVER)
        self._verdict = examined.at(self._from) if examined.chain and self._from <= self._until else None

    @classmethod
    def of(cls, presented: tuple[bytes, ...], trust: Trust) -> Judged:
        """Judge a chain and read whom it was made out to."""
        examined = examine(presented, trust)
        identity = None
        if examined.certificate is not None and examined.chain:
            with contextlib.suppress(InvalidInput):  # a certificate that names nobody: for policies to judge
                identity = read_identity(examined.certificate)
        if identity is not None and identity.domain != trust.domain:
            detail = f"Its identity belongs to the trust domain {identity.domain}, not to {trust.domain}."
            wrong = Check("identity", ReasonCode.WRONG_ENVIRONMENT, detail)
            examined = Examined((*examined.checks, wrong), examined.certificate, examined.issuer, examined.chain)
        return cls(examined, identity, trust)

    def at(self, moment: datetime) -> Verdict:
        """The verdict at a moment; while all certificates are within their dates it is always the same one."""
        if self._verdict is None or not self._from <= moment <= self._until:
            return self._examined.at(moment)
        return self._verdict


_NEVER = datetime.max.replace(tzinfo=UTC)


def _status_keys(examined: Examined, trust: Trust) -> list[tuple[Key, int]]:
    """Which certificates of a chain to look up, and the key generation that must have issued each. The status of a CA
    of ours is part of the trust; that of one whose key is elsewhere is not."""
    keys = []
    for certificate, above in pairwise(examined.chain):
        issuer = trust.known.get((above.subject.key, above.spki))
        is_ours = (certificate.subject.key, certificate.spki) in trust.known
        if issuer is not None and issuer.recorded and not is_ours:
            keys.append(((issuer.ca_id, certificate.serial), issuer.generation))
    return keys


def ingress_unknown(name: object) -> NotFound:
    """The refusal of an ingress that does not exist, or that the caller may not know of."""
    return NotFound(f'There is no ingress "{str(name)[:80]}".', code="ingress-unknown", target="ingress")


def policy_request(
    ingress: IngressView, judged: Judged, facts: Facts, *, host: str | None = None, path: str | None = None
) -> PolicyRequest:
    """What the policy of an ingress is asked about a request."""
    address = address_of(facts.source_ip)
    return PolicyRequest(
        identity=judged.identity,
        issuer=judged.issuer,
        ingress=ingress.id.name.partition("~")[2],
        method=facts.method,
        host=normalized_host(facts.host) if host is None else host,
        path=(normalized_path(facts.path) or "") if path is None else path,
        source_ip=str(address) if address else "",
        tls_version=facts.tls_version,
    )


def _facts_of(examined: Examined) -> CertificateFacts | None:
    certificate = examined.certificate
    if certificate is None:
        return None
    names = certificate.san.text if certificate.san else []
    return CertificateFacts(
        fingerprint=certificate.fingerprint,
        serial=certificate.serial,
        issuer=str(certificate.issuer),
        subject=str(certificate.subject),
        san=tuple(names[:_MOST_NAMES]),
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        ca=examined.issuer.ca if examined.issuer else "",
        claimed=next((name.partition(":")[2] for name in names if name.startswith("uniformResourceIdentifier:")), "")
        or str(certificate.subject),
    )


def _ingress_doubt(facts: Facts) -> Check | None:
    """What the enforcement point itself found wrong counts, even where we find nothing."""
    if not facts.verify_error:
        return None
    return Check("ingress", reason_of(facts.verify_error), f"The ingress found: {facts.verify_error[:100]}.")


def _unavailable(ingress: IngressView, detail: str) -> Check:
    if ingress.fail_open:
        return Check("status", None, f"{detail} The ingress is set to fail open.")
    return Check("status", ReasonCode.STATUS_UNAVAILABLE, detail)


_IP_ALLOWED = Check("ip")
_IP_DENIED = Check("ip", ReasonCode.IP_DENIED, "The address is in none of the allowed networks.")


def _finished(
    ingress: IngressView,
    facts: Facts,
    ip_allowed: bool | None,
    judged: Judged | None,
    verdict: Verdict | None,
    doubt: Check | None,
    policy: PolicyOutcome | None,
) -> Decision:
    """Both barriers and the policy put together. The outer barrier is named first, whatever the inner ones say."""
    certificate_reason, detail = (verdict.reason, verdict.detail) if verdict else (None, "")
    if certificate_reason is None and doubt is not None:
        certificate_reason, detail = doubt.reason, doubt.detail
    reason = certificate_reason
    checks = verdict.checks if verdict else ()
    if verdict is not None and verdict.reason is None:
        checks = (*checks, doubt or _STATUS_GOOD)
    if ip_allowed is not None:
        checks = (_IP_ALLOWED if ip_allowed else _IP_DENIED, *checks)
    if policy is not None:
        check = _policy_check(policy)
        checks = (*checks, check)
        if reason is None and check.reason:
            reason, detail = check.reason, check.detail
    if ip_allowed is False:
        reason, detail = ReasonCode.IP_DENIED, _IP_DENIED.detail
    good = judged is not None and certificate_reason is None
    return Decision(
        # The mode is about certificates and policies; the outer barrier stands in every mode.
        allowed=reason is None or (ingress.mode != "enforce" and reason is not ReasonCode.IP_DENIED),
        mode=ingress.mode,
        reason=reason,
        detail=detail,
        ip_allowed=ip_allowed,
        certificate_reason=certificate_reason,
        identity=judged.identity if judged is not None and good else None,
        certificate=judged.certificate if judged is not None else None,
        policy=policy,
        checks=checks,
        chain=judged.chain if judged is not None and good else (),
        ingress=ingress.id,
    )


_STATUS_GOOD = Check("status")


@lru_cache(maxsize=1024)
def _policy_check(policy: PolicyOutcome) -> Check:
    reason = None if policy.allowed else ReasonCode.POLICY_DENIED
    if not policy.policy:
        return Check("policy", reason, "The policy of the ingress has no active version.")
    where = f'policy "{policy.policy}" version {policy.version}'
    if policy.rules:
        said = "Allowed" if policy.allowed else "Denied"
        return Check("policy", reason, f"{said} by {where}: {', '.join(policy.rules)}.")
    return Check("policy", reason, f"No rule of {where} allows it.")
