"""`intaglio enroll`: the endpoints of the enrolment protocols, and who may ask there."""

from __future__ import annotations

from intaglio.cli import lazy

COMMANDS: lazy.Table = {
    "endpoint": ("enroll_endpoint", "Endpoints: places at which certificates are asked for."),
    "tenant": ("enroll_tenant", "Tenants: partitions of enrolment, part of URLs."),
    "credential": ("enroll_credential", "Passwords, shared secrets and challenges of endpoints."),
    "request": ("enroll_request", "Requests that wait for approval."),
    "urls": ("enroll_urls:urls", "Where certificates are asked for, with commands to copy."),
}

app = lazy.noun(
    COMMANDS,
    "Enrolment by ACME, EST, SCEP and CMP: endpoints, credentials, requests that wait for approval.",
)
