"""Envoy: every downstream TLS context, every validation context, and what is told upstream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from intaglio.mtls.ingresses.checking.findings import Finding, Node, documents, finding, walk

_FORWARDING = frozenset({"FORWARD_ONLY", "APPEND_FORWARD", "ALWAYS_FORWARD_ONLY"})
_OLD = frozenset({"TLSV1_0", "TLSV1_1", "TLSv1_0", "TLSv1_1"})


def check(text: str) -> list[Finding]:
    """The findings of an Envoy configuration or secret, YAML or JSON. Raises InvalidInput."""
    nodes = [node for document in documents(text) for node in walk(document)]
    downstream = [node for node in nodes if _type(node).endswith(".DownstreamTlsContext")]
    found: list[Finding] = []
    secrets = any(_type(node).endswith(".Secret") for node in nodes)
    if not downstream and not secrets:
        found.append(finding("client-certificate-off", 0, "No listener here speaks TLS."))
    decided = any("ext_authz" in _type(node) for node in nodes)
    for node in downstream:
        found += _downstream(node, decided)
    for node in nodes:
        if _type(node).endswith(".UpstreamTlsContext"):
            found += _upstream(node)
        for name in ("validation_context", "default_validation_context"):
            if isinstance(context := node.get(name), Node):
                found += _validation(context)
        if str(node.get("forward_client_cert_details", "")) in _FORWARDING:
            detail = f"forward_client_cert_details {node['forward_client_cert_details']} believes the client."
            found.append(finding("headers-forgeable", node.line, detail))
        if str(node.get("tls_minimum_protocol_version", "")) in _OLD:
            found.append(finding("old-tls", node.line, f"{node['tls_minimum_protocol_version']} is allowed."))
    return found


def _downstream(node: Node, decided: bool) -> Iterator[Finding]:
    if _true(node.get("require_client_certificate")) is not True:
        has = any("validation_context" in name for inner in walk(node) for name in inner)
        rule = "client-certificate-optional" if has else "client-certificate-off"
        yield finding(rule, node.line, "require_client_certificate is not true.")
    common = node.get("common_tls_context")
    names = {name for inner in walk(common) for name in inner}
    by_sds = any("sds" in name for name in names)
    if "trusted_ca" not in names and not by_sds and "certificate_provider_instance" not in " ".join(names):
        yield finding("no-trust-anchors", node.line, "There is no trusted_ca.")
    if "crl" not in names and not by_sds and not decided:
        yield finding("no-revocation", node.line, "There is neither a crl nor ext_authz.")
    if _true(node.get("disable_stateless_session_resumption")) is not True:
        yield finding("sessions-resumed", node.line, "disable_stateless_session_resumption is not true.")


def _upstream(node: Node) -> Iterator[Finding]:
    names = {name for inner in walk(node.get("common_tls_context")) for name in inner}
    named = any("match_typed_subject_alt_names" in name or "sds" in name for name in names)
    if not any("validation_context" in name for name in names):
        yield finding("upstream-unverified", node.line, "The service behind is not verified: no validation_context.")
    elif not named and _true(node.get("auto_san_validation")) is not True:
        yield finding("upstream-unverified", node.line, "The name of the service behind is not checked.")


def _validation(context: Node) -> Iterator[Finding]:
    if str(context.get("trust_chain_verification", "")) in ("ACCEPT_UNTRUSTED", "1"):
        yield finding("client-certificate-optional", context.line, "ACCEPT_UNTRUSTED lets in what did not verify.")
    if _true(context.get("allow_expired_certificate")):
        yield finding("expiry-ignored", context.line, "allow_expired_certificate takes expired certificates.")


def _type(node: Node) -> str:
    return str(node.get("@type", ""))


def _true(value: Any) -> bool | None:
    """A boolean, also wrapped ({value: true}) or as text, as the JSON form of protocol buffers allows."""
    if isinstance(value, Node):
        value = value.get("value")
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None
