"""`intaglio mtls`: mutual TLS identity, one module per noun."""

from __future__ import annotations

from intaglio.cli import lazy

COMMANDS: lazy.Table = {
    "domain": ("mtls.domain", "Trust domains: who trusts whom in one environment."),
    "ca": ("mtls.ca", "CAs of trust domains."),
    "identity": ("mtls.identity", "The registry of identities."),
    "binding": ("mtls.binding", "Which certificate was issued for which identity."),
    "bundle": ("mtls.bundle", "Trust bundles, for everybody who trusts."),
    "edge": ("mtls.edge", "Who trusts whom, and the design document of it all."),
    "revoke": ("mtls.revoke", "Revoke certificates of identities."),
    "code": ("mtls.code", "Security codes, with which people enrol in the browser."),
    "login": ("mtls.login", "Certificates that log in to accounts of the platform."),
    "mail": ("mtls.mail", "The mail server for security codes and reminders."),
    "agent": ("mtls.agent", "The agent that keeps certificates fresh, and the tokens it begins with."),
    "pipeline": ("mtls.pipeline", "Jobs and pods, proved by the identity tokens of their platform."),
    "gateway": ("mtls.gateway", "The mTLS gateway: a reverse proxy that knows every client."),
    "scenario": ("mtls.scenario", "Scenarios: who gets through where, with which certificate, from which network."),
    "demo": ("mtls.demo", "Demonstrations that need no server."),
    "scan": ("mtls.scan", "Scan code, files, images and endpoints for the common mistakes."),
    "ingress": ("mtls.ingress", "Where client certificates are demanded, and how strictly."),
    "render": ("mtls.render", "Configuration of nginx, HAProxy, Envoy and others as ingresses."),
    "policy": ("mtls.policy", "What callers may do, by what their certificates say."),
    "logs": ("mtls.logs", "Access logs of ingresses made by others."),
    "drill": ("mtls.drill", "Revocation and rotation, rehearsed."),
    "alert": ("mtls.alert", "What is wrong, who was told, and the proof that telling works."),
    "posture": ("mtls.posture", "Which rules hold, which do not, and what to do next."),
    "event": ("mtls.event", "Who was let in or turned away where, and why."),
    "outbound": ("mtls.outbound", "Client credentials for our own calls to others."),
}

app = lazy.noun(
    COMMANDS,
    "Mutual TLS identity: identities and their certificates, enrolment, access decisions, posture.",
    {"events": "event", "alerts": "alert"},
)
