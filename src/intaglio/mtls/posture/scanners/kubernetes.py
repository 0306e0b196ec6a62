"""Kubernetes objects in YAML, judged by their structure: Istio modes, and secrets with private keys."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

import yaml

_MOST_DOCUMENTS = 500
_MOST_OCTETS = 1024 * 1024
#: Only these are read: parsing all YAML of a tree would take far longer than everything else.
_KINDS = re.compile(r"\bkind[\"']?\s*:\s*[\"']?(?:PeerAuthentication|DestinationRule|Secret|ConfigMap)\b")
_WEAK_MODES = frozenset({"PERMISSIVE", "DISABLE"})


def documents(text: str) -> list[tuple[int, dict[str, Any]]]:
    """(line, object) of every YAML document of a text that has one of the kinds; nothing when it is not readable YAML.

    Templates (Helm, Jinja) are mostly no YAML, and are left to the patterns.
    """
    if len(text) > _MOST_OCTETS or not _KINDS.search(text):
        return []
    found: list[tuple[int, dict[str, Any]]] = []
    try:
        loader = _Loader(text)
        try:
            while loader.check_node() and len(found) < _MOST_DOCUMENTS:
                node = loader.get_node()
                value = loader.construct_document(node)
                if node is not None and isinstance(value, dict) and isinstance(value.get("kind"), str):
                    found.append((node.start_mark.line + 1, value))
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, AttributeError):
        return found
    return found


def unverified(text: str) -> Iterator[tuple[int, str]]:
    """(line, what) of Istio objects that allow connections without mutual TLS or verification."""
    for line, found in documents(text):
        kind, spec = found["kind"], found.get("spec")
        if not isinstance(spec, dict):
            continue
        if kind == "PeerAuthentication":
            for what, mode in _peer_modes(spec):
                if mode in _WEAK_MODES:
                    yield line, f"PeerAuthentication {what}: {mode}"
        elif kind == "DestinationRule":
            yield from ((line, f"DestinationRule {what}") for what in _destination_faults(spec, 0))


def secrets(text: str) -> Iterator[tuple[int, str, bytes]]:
    """(line, "Secret NAME key KEY", content) of every value in a Secret or ConfigMap, decoded."""
    for line, found in documents(text):
        if found["kind"] not in ("Secret", "ConfigMap"):
            continue
        metadata = found.get("metadata")
        name = metadata.get("name", "?") if isinstance(metadata, dict) else "?"
        for member in ("data", "stringData", "binaryData"):
            values = found.get(member)
            for key, value in values.items() if isinstance(values, dict) else ():
                if isinstance(value, str):
                    encoded = member == "binaryData" or (member == "data" and found["kind"] == "Secret")
                    yield line, f"{found['kind']} {name}, key {key}", _decoded(value) if encoded else value.encode()


class _Loader(yaml.SafeLoader):
    """YAML without aliases: a few lines of them can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not followed")
        return super().compose_node(parent, index)


def _peer_modes(spec: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    mtls = spec.get("mtls")
    if isinstance(mtls, dict):
        yield "mode", mtls.get("mode")
    ports = spec.get("portLevelMtls")
    for port, each in ports.items() if isinstance(ports, dict) else ():
        if isinstance(each, dict):
            yield f"port {port}", each.get("mode")


def _destination_faults(value: Any, depth: int) -> Iterator[str]:
    if depth > 8 or not isinstance(value, dict | list):
        return
    for each in value if isinstance(value, list) else ():
        yield from _destination_faults(each, depth + 1)
    if isinstance(value, dict):
        tls = value.get("tls")
        if isinstance(tls, dict):
            if tls.get("mode") == "DISABLE":
                yield "tls mode: DISABLE"
            if tls.get("insecureSkipVerify") is True:
                yield "tls insecureSkipVerify: true"
        for each in value.values():
            yield from _destination_faults(each, depth + 1)


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        return b""
