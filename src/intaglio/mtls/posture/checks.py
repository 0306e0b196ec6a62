"""The posture checks PC-01 to PC-25: a table of rules, and one function each from state to outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from intaglio.core.clock import rfc3339
from intaglio.mtls.posture.values import (
    BACKDATING,
    CEILING,
    DRILL_AGE,
    EVENT_WINDOW,
    EXPIRY_ALERT,
    REQUIRED_ALERTS,
    TARGET_SECONDS,
    CertifiedState,
    DrillState,
    IngressState,
    Offence,
    Outcome,
    ScanState,
    State,
)


@dataclass(frozen=True)
class Check:
    """A rule and how it is judged. ``stage`` is the one it belongs to; ``remedy`` what to do when it is broken."""

    id: str
    title: str
    rule: str
    stage: int
    remedy: str
    judge: Callable[[State], Outcome]


# ---- PKI and trust ---------------------------------------------------------------------------------------------------


def _ca_active(state: State) -> Outcome:
    if not state.domains:
        return _failed([Offence(state.organization, "There is no trust domain, so no PKI was chosen.")])
    found = [Offence(each.name, each.trouble) for each in state.domains if each.trouble]
    return _judged(found, f"The CAs of {len(state.domains)} trust domains are active and publish status.")


def _edges_complete(state: State) -> Outcome:
    found = [Offence(each, "Nobody has written down and approved whom it trusts.") for each in state.without_edges]
    return _judged(found, f"{state.services} services have approved trust edges.", any_=state.services, what="service")


def _isolated(state: State) -> Outcome:
    found = [
        Offence(each.name, f"A CA of {each.environment} counts in {', '.join(each.foreign)} too.")
        for each in state.domains
        if each.foreign
    ]
    return _judged(found, "No CA counts in two environments.", any_=len(state.domains), what="trust domain")


# ---- certificates ----------------------------------------------------------------------------------------------------


def _live(state: State) -> Outcome:
    found = [Offence(each.name, "It has no live certificate.") for each in state.certified if not each.channel]
    return _about_certificates(state, found, "Every active machine identity has a live certificate.")


def _renewal(state: State) -> Outcome:
    found = []
    for each in _with_certificate(state):
        if each.channel in ("manual", "drill"):
            found.append(Offence(each.name, f"Its certificate came by hand ({each.channel}); nothing renews it."))
        elif each.channel != "pipeline" and not each.renewed:
            found.append(Offence(each.name, f"Its channel ({each.channel}) has never renewed a certificate yet."))
    return _about_certificates(state, found, "Every certificate has a channel that has renewed one.")


def _short(state: State) -> Outcome:
    found = [
        Offence(each.name, f"Its certificate lives {_hours(each)} hours.")
        for each in _with_certificate(state)
        if each.not_after is not None and each.not_before is not None
        and each.not_after - each.not_before > CEILING + BACKDATING
    ]  # fmt: skip
    return _about_certificates(state, found, "No certificate of a machine lives longer than 72 hours.")


def _no_hands(state: State) -> Outcome:
    found = [
        Offence(each.name, "A person asked for its certificate and carried it there.")
        for each in _with_certificate(state)
        if each.channel == "manual"
    ]
    return _about_certificates(state, found, "No machine has a certificate that was carried by hand.")


def _attributes(state: State) -> Outcome:
    found = []
    for each in _with_certificate(state):
        wanted = {"team": each.team} | ({"service": each.service} if each.kind in ("service", "workload") else {})
        if missing := [name for name, value in wanted.items() if not value]:
            found.append(Offence(each.name, f"Its certificate does not say its {' and '.join(missing)}."))
    return _about_certificates(state, found, "Every certificate says service, team and environment.")


def _owners(state: State) -> Outcome:
    found = [
        Offence(name, f'"{owner}" is no account that was made its owner: nobody answers for it.')
        for name, owner in state.without_owner
    ]
    return _judged(found, "Whoever is named as an owner has the account that was meant.")


def _strength(state: State) -> Outcome:
    found = [Offence(each.name, each.weakness) for each in _with_certificate(state) if each.weakness]
    return _about_certificates(state, found, "Keys and signatures of all certificates are strong.")


def _expiry(state: State) -> Outcome:
    found = [Offence(each, "Its certificate is in use and unknown here.") for each in state.unmonitored]
    if (until := state.mutes.get(EXPIRY_ALERT)) is not None and until > state.now:
        found.append(Offence(EXPIRY_ALERT, f"The alert is muted until {rfc3339(until)}."))
    for scan in _scans(state, "endpoints"):
        found += [Offence(place, text) for rule, place, text in scan.findings if rule in _ENDING]
    return _judged(found, "Every certificate in use is watched, and its end told 72 hours before.")


# ---- ingresses -------------------------------------------------------------------------------------------------------


def _mode(state: State) -> Outcome:
    found = []
    for each in state.ingresses:
        if each.mode == "off":
            found.append(Offence(each.name, "It asks nobody for a certificate (off)."))
        elif each.mode == "permissive" and each.permissive_until is not None and each.permissive_until <= state.now:
            found.append(Offence(each.name, f"It was to be permissive until {rfc3339(each.permissive_until)} only."))
    watching = sum(each.mode == "permissive" for each in state.ingresses)
    return _about_ingresses(state, found, f"None is off; {watching} are permissive within their time.")


def _verifies(state: State) -> Outcome:
    found = [Offence(each.name, " ".join(each.trouble)) for each in state.ingresses if each.trouble]
    return _about_ingresses(state, found, "Every ingress verifies chain, dates and status, and fails closed.")


def _latency(state: State) -> Outcome:
    found = []
    for each in _asking(state):
        if each.bound is None:
            found.append(Offence(each.name, "Nothing bounds how long a revoked certificate gets in."))
        elif each.bound > TARGET_SECONDS:
            found.append(Offence(each.name, f"A revoked certificate may get in for {each.bound:g} seconds."))
    for domain in state.domains:
        drill = domain.revoke_drill
        if drill is not None and drill.slowest is not None and drill.slowest > TARGET_SECONDS:
            found.append(Offence(domain.name, f"The newest drill measured {drill.slowest:g} seconds."))
    return _about_ingresses(state, found, f"A revocation counts everywhere within {TARGET_SECONDS:g} seconds.")


def _specific(state: State) -> Outcome:
    found = [Offence(each.name, each.admits) for each in _asking(state) if each.admits]
    return _about_ingresses(state, found, "Every policy says who may do what.")


def _logged(state: State) -> Outcome:
    days = EVENT_WINDOW.days
    found = [Offence(each.name, f"No access event in {days} days.") for each in state.ingresses if not each.events]
    return _about_ingresses(state, found, f"Every ingress has sent access events within {days} days.")


def _ip_rule(state: State) -> Outcome:
    found = []
    for each in state.ingresses:
        if each.ip_rule is None:
            found.append(Offence(each.name, "It has no IP rule, so nothing is denied by default."))
        elif open_ := [network for network in each.ip_rule if network.endswith("/0")]:
            found.append(Offence(each.name, f"Its IP rule allows everybody: {', '.join(open_)}."))
    return _about_ingresses(state, found, "Every ingress denies all networks but those it names.")


def _two_barriers(state: State) -> Outcome:
    found = []
    for each in state.ingresses:
        missing = []
        if not each.address_refuses:
            missing.append("A foreign address with a good certificate is not refused.")
        if not each.certificate_refuses:
            missing.append("A known address without a certificate is not refused.")
        if missing:
            found.append(Offence(each.name, " ".join(missing)))
    return _about_ingresses(state, found, "Address and certificate each refuse on their own, everywhere.")


def _internal(state: State) -> Outcome:
    found = [
        Offence(each.subject, f"{each.protocol} with mutual TLS {each.state}.")
        for each in state.edges
        if each.state != "enforced"
    ]
    if not state.edges and state.services > 1:
        return Outcome(unknown="Nobody has declared who calls whom, and nothing was discovered.")
    return _judged(found, f"{len(state.edges)} declared or discovered calls use mutual TLS.")


# ---- operation -------------------------------------------------------------------------------------------------------


def _revocation_drill(state: State) -> Outcome:
    found = [
        Offence(each.name, text)
        for each in state.domains
        if (text := _drill_trouble(each.revoke_drill, state.now, "revocation"))
    ]
    return _judged(found, "The revocation drills were passed within a quarter.", any_=len(state.domains), what="domain")


def _rotation_drill(state: State) -> Outcome:
    found = []
    for each in state.domains:
        if text := _drill_trouble(each.rotate_drill, state.now, "rotation"):
            found.append(Offence(each.name, text))
        elif each.runbook_at is None or state.now - each.runbook_at > DRILL_AGE:
            found.append(Offence(each.name, "There is no rotation runbook of the last 92 days."))
    return _judged(found, "Rotation was rehearsed, and its runbook is recent.", any_=len(state.domains), what="domain")


def _alerts(state: State) -> Outcome:
    found = []
    for kind in REQUIRED_ALERTS:
        if kind not in state.proofs:
            found.append(Offence(kind, "It was never fired as a test."))
        elif (until := state.mutes.get(kind)) is not None and until > state.now:
            found.append(Offence(kind, f"It is muted until {rfc3339(until)}."))
    return _judged(found, "All four alerts were fired as tests and arrived.")


def _verification(state: State) -> Outcome:
    return _scanned(state, "code", lambda rule: True, "No place was found where verification is off.")


def _self_signed(state: State) -> Outcome:
    return _scanned(state, "endpoints", lambda rule: rule == "endpoint-self-signed", "No self-signed leaf is in use.")


def _custody(state: State) -> Outcome:
    return _scanned(state, "keys", lambda rule: True, "No private key lies open.")


# ---- helpers ---------------------------------------------------------------------------------------------------------

_ENDING = ("endpoint-expired", "endpoint-expires-soon")


def _failed(found: Iterable[Offence]) -> Outcome:
    return Outcome(offences=tuple(found))


def _judged(found: list[Offence], holds: str, *, any_: int = 1, what: str = "") -> Outcome:
    if found:
        return _failed(found)
    return Outcome(evidence=holds) if any_ else Outcome(unknown=f"There is no {what} yet.")


def _about_certificates(state: State, found: list[Offence], holds: str) -> Outcome:
    return _judged(found, f"{holds} ({len(state.certified)} looked at)", any_=len(state.certified), what="machine")


def _about_ingresses(state: State, found: list[Offence], holds: str) -> Outcome:
    return _judged(found, f"{holds} ({len(state.ingresses)} looked at)", any_=len(state.ingresses), what="ingress")


def _with_certificate(state: State) -> Iterator[CertifiedState]:
    return (each for each in state.certified if each.channel)


def _asking(state: State) -> Iterator[IngressState]:
    return (each for each in state.ingresses if each.mode != "off")


def _scans(state: State, kind: str) -> list[ScanState]:
    return [each for each in state.scans if each.kind == kind]


def _scanned(state: State, kind: str, counts: Callable[[str], bool], holds: str) -> Outcome:
    scans = _scans(state, kind)
    found = [
        Offence(place, f"{text} [{rule}]") for scan in scans for rule, place, text in scan.findings if counts(rule)
    ]
    if found:
        return _failed(found)
    if not scans:
        return Outcome(unknown=f"No scan of {kind} was recorded.")
    if partial := [scan.place for scan in scans if not scan.complete]:
        return Outcome(unknown=f"The scan of {', '.join(partial)} did not see everything.")
    return Outcome(evidence=f"{holds} ({len(scans)} scans, the oldest of {rfc3339(min(each.at for each in scans))})")


def _drill_trouble(drill: DrillState | None, now: datetime, name: str) -> str:
    if drill is None:
        return f"There was no {name} drill yet."
    if not drill.passed:
        return f"The {name} drill of {rfc3339(drill.at)} failed."
    return f"The last {name} drill was {(now - drill.at).days} days ago." if now - drill.at > DRILL_AGE else ""


def _hours(each: CertifiedState) -> int:
    assert each.not_after is not None
    assert each.not_before is not None
    return round((each.not_after - each.not_before).total_seconds() / 3600)


# ---- the table -------------------------------------------------------------------------------------------------------

_AGENT = "Let the agent, ACME or cert-manager get its certificates: intaglio mtls agent run"
_TABLE: Final = (
    Check("PC-01", "A CA is active, and its status reachable", "choose a PKI", 2,
          "Give the trust domain a CA: intaglio mtls domain create, intaglio mtls ca create.", _ca_active),
    Check("PC-02", "Every service has trust edges", "define who trusts whom", 2,
          "Propose and approve one: intaglio mtls edge propose SERVICE DOMAIN.", _edges_complete),
    Check("PC-03", "Environments are isolated", "rule 3: a CA per environment", 2,
          "Give each environment CAs of its own, and take the shared one out.", _isolated),
    Check("PC-04", "Every service has a live certificate", "issue to all services", 2, f"{_AGENT}.", _live),
    Check("PC-05", "Renewal is automated", "rule 1: no person in renewal", 2, f"{_AGENT}.", _renewal),
    Check("PC-06", "Lives of certificates are within the ceiling", "rule 2: 24 to 72 hours", 2,
          "Shorten the lifetimes of the trust domain, and let the certificate be renewed.", _short),
    Check("PC-07", "Nothing is distributed by hand", "rule 1: no manual distribution", 2, f"{_AGENT}.", _no_hands),
    Check("PC-08", "Every ingress asks for certificates", "permissive first, then enforce", 2,
          "Look at its readiness, then: intaglio mtls ingress mode NAME enforce.", _mode),
    Check("PC-09", "Every ingress verifies fully", "rule 6: never skip verification", 2,
          "intaglio mtls ingress edit NAME --fail-mode closed; render its configuration anew.", _verifies),
    Check("PC-10", "Internal calls use mutual TLS", "not only at the edge", 2,
          "Put the service that is called behind an ingress that enforces; then declare it.", _internal),
    Check("PC-11", "Certificates name service, team and environment", "rule 4: encode identity", 2,
          "Register what is missing and renew: intaglio mtls identity edit.", _attributes),
    Check("PC-12", "Policies are specific", "rule 4: not just any valid certificate", 2,
          "Write a policy that names services, teams or roles: intaglio mtls policy apply.", _specific),
    Check("PC-13", "Revocation counts within 60 seconds", "rule 5: revocation is tested", 2,
          "Set its revocation source to live, or its refresh to 10 seconds: intaglio mtls ingress edit.", _latency),
    Check("PC-14", "The revocation drill is recent", "rule 5: every quarter", 2,
          "Rehearse it: intaglio mtls drill revoke DOMAIN.", _revocation_drill),
    Check("PC-15", "Rotation drill and runbook are recent", "govern: runbook and rehearsal", 2,
          "intaglio mtls drill rotate DOMAIN; intaglio mtls drill runbook DOMAIN.", _rotation_drill),
    Check("PC-16", "Every ingress logs certificates", "log and monitor", 2,
          "Let it ask for decisions here, or import its log: intaglio mtls logs import.", _logged),
    Check("PC-17", "The four alerts are proved", "log and monitor", 2,
          "Fire each as a test: intaglio mtls alert test KIND.", _alerts),
    Check("PC-18", "Every expiry is announced in time", "alert 72 hours before the end", 2,
          "Register what holds the certificate, renew it, and unmute the alert.", _expiry),
    Check("PC-19", "Verification is never off", "rule 6: never skip verification", 2,
          "Scan and record: intaglio mtls scan code DIR --format json --out report.json; "
          "intaglio mtls posture record-scan code report.json.", _verification),
    Check("PC-20", "No self-signed leaf is in use", "no certificate without a CA", 2,
          "Scan and record: intaglio mtls scan endpoints; intaglio mtls posture record-scan endpoints.", _self_signed),
    Check("PC-21", "Private keys are kept well", "keys in a store, not in plain text", 2,
          "Scan and record: intaglio mtls scan keys; intaglio mtls posture record-scan keys.", _custody),
    Check("PC-22", "Every ingress has an IP rule", "stage 1: deny by default", 1,
          "intaglio mtls ingress edit NAME --allow NETWORK.", _ip_rule),
    Check("PC-23", "Two barriers refuse independently", "stages 1 and 2 together", 2,
          "Give the ingress an IP rule and let it enforce.", _two_barriers),
    Check("PC-24", "Keys and signatures are strong", "current algorithms only", 2,
          "Issue with P-256 or RSA 3072 and SHA-256 or better.", _strength),
    Check("PC-25", "Owners have accounts", "rule 1: every certificate has an owner", 2,
          "Name the owner again, or another one: intaglio mtls identity edit NAME --owner USER.", _owners),
)  # fmt: skip

CHECKS: Final[Mapping[str, Check]] = {check.id: check for check in _TABLE}

#: The six steps of a rollout: label, title, and the checks that say when it is done.
STEPS: Final = (
    ("Foundation", "Choose a PKI", ("PC-01",)),
    ("Design", "Define the trust domain", ("PC-02", "PC-03")),
    ("Issuance", "Issue to all services", ("PC-04", "PC-05", "PC-06", "PC-07", "PC-11", "PC-24", "PC-25")),
    ("Enforce", "Demand certificates at every ingress", ("PC-08", "PC-09", "PC-10", "PC-12", "PC-23")),
    ("Observe", "Log and monitor", ("PC-16", "PC-17", "PC-18")),
    ("Govern", "Rehearse rotation and revocation", ("PC-13", "PC-14", "PC-15")),
)
