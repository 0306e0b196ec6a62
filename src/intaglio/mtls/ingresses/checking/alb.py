"""AWS Application Load Balancers: listeners as the API takes and shows them, in JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from intaglio.mtls.ingresses.checking.findings import Finding, finding, invalid

_OLD_POLICIES = ("ELBSecurityPolicy-2016-08", "ELBSecurityPolicy-TLS-1-0", "ELBSecurityPolicy-TLS-1-1",
                 "ELBSecurityPolicy-TLS13-1-0", "ELBSecurityPolicy-TLS13-1-1")  # fmt: skip


def is_one(value: Any) -> bool:
    """Whether a JSON value speaks of a listener."""
    return bool(list(_listeners(value)))


def check(text: str) -> list[Finding]:
    """The findings of the JSON of `aws elbv2 modify-listener`, `create-listener` or `describe-listeners`.

    Raises InvalidInput (``configuration-invalid``).
    """
    try:
        value = json.loads(text)
        listeners = list(_listeners(value))
    except (ValueError, RecursionError):
        raise invalid("This is not JSON") from None
    if not listeners:
        raise invalid("There is no listener in it")
    return [each for listener in listeners for each in _listener(listener)]


def _listener(listener: dict[str, Any]) -> Iterator[Finding]:
    protocol = str(listener.get("Protocol", "HTTPS"))
    name = str(listener.get("ListenerArn", "this listener"))[:200]
    if protocol not in ("HTTPS", "TLS"):
        yield finding("client-certificate-off", 0, f"{name} speaks {protocol[:10]}, without TLS.")
        return
    mutual = listener.get("MutualAuthentication")
    mutual = mutual if isinstance(mutual, dict) else {}
    mode = str(mutual.get("Mode", "off")).lower()
    if mode == "off":
        yield finding("client-certificate-off", 0, f"{name} asks for no client certificate.")
    elif mode == "passthrough":
        yield finding("pass-through", 0, f"{name} passes certificates on without verifying them.")
    elif mode != "verify":
        yield finding("client-certificate-off", 0, f"{name} has the unknown mode {mode[:40]}.")
    elif not mutual.get("TrustStoreArn"):
        yield finding("no-trust-anchors", 0, f"{name} names no trust store.")
    if mutual.get("IgnoreClientCertificateExpiry") not in (None, False):
        yield finding("expiry-ignored", 0, f"{name} takes expired certificates.")
    policy = str(listener.get("SslPolicy", ""))
    if policy.startswith(_OLD_POLICIES):
        yield finding("old-tls", 0, f"{name} has the policy {policy[:60]}, which allows TLS before 1.2.")


def _listeners(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "MutualAuthentication" in value or "ListenerArn" in value or "SslPolicy" in value:
            yield value
            return
        if "Mode" in value and ("TrustStoreArn" in value or "IgnoreClientCertificateExpiry" in value):
            yield {"MutualAuthentication": value}
            return
        for each in value.values():
            yield from _listeners(each)
    elif isinstance(value, list):
        for each in value:
            yield from _listeners(each)
