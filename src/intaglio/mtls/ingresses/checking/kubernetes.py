"""Kubernetes: Istio, Linkerd and ingress-nginx, by the kinds of the documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from intaglio.mtls.ingresses.checking.findings import Finding, Node, documents, finding, invalid, walk

_NGINX = "nginx.ingress.kubernetes.io/"


def check(text: str) -> list[Finding]:
    """The findings of Kubernetes manifests. Raises InvalidInput (``configuration-invalid``)."""
    manifests = [each for document in documents(text) for each in _manifests(document)]
    if not manifests:
        raise invalid("There is no Kubernetes object in it")
    return [each for manifest in manifests for each in _BY_KIND.get(str(manifest["kind"]), _nothing)(manifest)]


def _manifests(document: Any) -> Iterator[Node]:
    if isinstance(document, Node) and "kind" in document:
        items = document.get("items")
        if str(document["kind"]).endswith("List") and isinstance(items, list):
            for item in items:
                yield from _manifests(item)
        else:
            yield document


def _peer_authentication(manifest: Node) -> Iterator[Finding]:
    spec = _spec(manifest)
    for node in [each for each in walk(spec) if "mode" in each] or [spec]:
        mode = str(node.get("mode", "UNSET"))
        if mode == "DISABLE":
            yield finding("client-certificate-off", node.line, "PeerAuthentication DISABLE: calls are not mutual TLS.")
        elif mode != "STRICT":
            yield finding("client-certificate-optional", node.line, f"{mode[:20]}: plain calls are taken.")


def _gateway(manifest: Node) -> Iterator[Finding]:
    for node in walk(_spec(manifest)):
        tls = node.get("tls")
        if not isinstance(tls, Node):
            if isinstance(port := node.get("port"), Node) and str(port.get("protocol", "")) in ("HTTPS", "TLS"):
                yield finding("client-certificate-off", node.line, "This server has no tls.mode MUTUAL.")
            continue
        mode = str(tls.get("mode", "SIMPLE"))
        if mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH"):
            yield finding("pass-through", tls.line, f"{mode}: nothing is verified here.")
        elif mode == "OPTIONAL_MUTUAL":
            yield finding("client-certificate-optional", tls.line, "OPTIONAL_MUTUAL lets clients in without one.")
        elif mode not in ("MUTUAL", "ISTIO_MUTUAL"):
            yield finding("client-certificate-off", tls.line, f"{mode[:20]} asks for no client certificate.")
        if str(tls.get("minProtocolVersion", "")) in ("TLSV1_0", "TLSV1_1"):
            yield finding("old-tls", tls.line, f"{tls['minProtocolVersion']} is allowed.")


def _destination_rule(manifest: Node) -> Iterator[Finding]:
    for node in walk(_spec(manifest)):
        if isinstance(tls := node.get("tls"), Node):
            if tls.get("mode") == "DISABLE":
                yield finding("upstream-unverified", tls.line, "Calls to this destination are plain.")
            if tls.get("insecureSkipVerify") is True:
                yield finding("upstream-unverified", tls.line, "This destination is not verified.")


def _authorization_policy(manifest: Node) -> Iterator[Finding]:
    spec = _spec(manifest)
    rules = spec.get("rules")
    allows = spec.get("action", "ALLOW") == "ALLOW"
    if allows and isinstance(rules, list) and any(isinstance(rule, Node) and not rule for rule in rules):
        yield finding("everybody-allowed", manifest.line, "A rule without conditions allows everybody.")


def _linkerd_server(manifest: Node) -> Iterator[Finding]:
    policy = str(_spec(manifest).get("accessPolicy", "deny"))
    if policy != "deny":
        rule = "client-certificate-off" if "unauthenticated" in policy else "client-certificate-optional"
        yield finding(rule, manifest.line, f"accessPolicy {policy[:40]} lets callers in without mutual TLS.")


def _ingress(manifest: Node) -> Iterator[Finding]:
    metadata = manifest.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Node) else None
    annotations = annotations if isinstance(annotations, Node) else Node()
    line = annotations.line or manifest.line
    verify = str(annotations.get(f"{_NGINX}auth-tls-verify-client", "on"))
    if f"{_NGINX}auth-tls-secret" not in annotations:
        yield finding("client-certificate-off", line, "There is no auth-tls-secret.")
    elif verify in ("off", "False", "false"):
        yield finding("client-certificate-off", line, "auth-tls-verify-client is off.")
    elif verify not in ("on", "True", "true"):
        yield finding("client-certificate-optional", line, f"auth-tls-verify-client {verify[:20]} is not on.")
    if str(annotations.get(f"{_NGINX}ssl-passthrough", "")).lower() == "true":
        yield finding("pass-through", line, "ssl-passthrough: nothing is verified here.")
    secure = str(annotations.get(f"{_NGINX}backend-protocol", "")).upper() in ("HTTPS", "GRPCS")
    if secure and annotations.get(f"{_NGINX}proxy-ssl-verify") != "on":
        yield finding("upstream-unverified", line, "proxy-ssl-verify is not on.")


def _nothing(_: Node) -> Iterator[Finding]:
    return iter(())


def _spec(manifest: Node) -> Node:
    spec = manifest.get("spec")
    if isinstance(spec, Node):
        return spec
    empty = Node()
    empty.line = manifest.line
    return empty


_BY_KIND: Final[Mapping[str, Callable[[Node], Iterator[Finding]]]] = {
    "PeerAuthentication": _peer_authentication,
    "Gateway": _gateway,
    "DestinationRule": _destination_rule,
    "AuthorizationPolicy": _authorization_policy,
    "Server": _linkerd_server,
    "Ingress": _ingress,
}
