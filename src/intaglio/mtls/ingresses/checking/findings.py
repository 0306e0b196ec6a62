"""What a check of a configuration says."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final, Literal

import yaml

from intaglio.core.errors import InvalidInput

Severity = Literal["error", "warning"]

#: What is wrong, and what to do about it, by rule.
REMEDIES: Final = {
    "client-certificate-off": "Demand a client certificate.",
    "client-certificate-optional": "Demand a client certificate, as soon as all callers have one.",
    "expiry-ignored": "Let expired certificates be refused.",
    "errors-ignored": "Take out what ignores errors of verification.",
    "pass-through": "Verify the certificate here, or terminate TLS where it is verified.",
    "no-trust-anchors": "Name the trust bundle of the trust domain.",
    "wrong-bundle": "Use the bundle of the trust domain.",
    "no-revocation": "Look at CRLs or OCSP, or ask the decision endpoint.",
    "refusal-bypassed": "Answer refused handshakes with an error, not with the service.",
    "upstream-unverified": "Verify the certificate of the service behind, with its name.",
    "old-tls": "Allow TLS 1.2 and 1.3 only.",
    "sessions-resumed": "Switch session resumption off: a resumed session is not verified again.",
    "headers-forgeable": "Take away what clients say of their identity, and set it here.",
    "everybody-allowed": "Name who may call.",
}
_WARNINGS = frozenset({"sessions-resumed", "headers-forgeable", "everybody-allowed"})


@dataclass(frozen=True)
class Finding:
    """Something that does not verify fully. ``line`` counts from one; 0 means the whole."""

    rule: str
    severity: Severity
    line: int
    detail: str
    remedy: str


@dataclass(frozen=True)
class Checked:
    """What a configuration was taken for, and what is wrong with it."""

    type: str
    findings: tuple[Finding, ...]

    @property
    def verifies(self) -> bool:
        """Whether no finding is an error."""
        return all(finding.severity != "error" for finding in self.findings)


def finding(rule: str, line: int, detail: str) -> Finding:
    """A finding with the severity and remedy of its rule."""
    return Finding(rule, "warning" if rule in _WARNINGS else "error", line, detail, REMEDIES[rule])


def invalid(what: str, line: int = 0) -> InvalidInput:
    """The refusal of a text that is not what it was taken for."""
    where = f"Line {line}: " if line else ""
    return InvalidInput(f"{where}{what}.", code="configuration-invalid", remedy="Check it with its own product first.")


# ---- YAML ------------------------------------------------------------------------------------------------------------


class Node(dict[str, Any]):
    """A mapping of a YAML document, with the line it begins in."""

    line: int = 0


class _Loader(yaml.SafeLoader):
    """Safe, knows lines, and takes no aliases: a few of them can grow into gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise invalid("YAML aliases are not read", event.start_mark.line + 1)
        return super().compose_node(parent, index)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Node:
    made = Node({str(key): value for key, value in loader.construct_mapping(node, deep=True).items()})
    made.line = node.start_mark.line + 1
    return made


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def documents(text: str) -> list[Any]:
    """The YAML (or JSON) documents in a text; mappings are :class:`Node`. Raises InvalidInput."""
    try:
        return list(yaml.load_all(text, _Loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise invalid("This is not YAML", mark.line + 1 if mark else 0) from None
    except (RecursionError, ValueError, TypeError):
        raise invalid("This is not YAML that can be read") from None


def walk(value: Any) -> list[Node]:
    """Every mapping inside, outer ones first."""
    found: list[Node] = []
    waiting = deque([value])
    while waiting:
        current = waiting.popleft()
        if isinstance(current, Node):
            found.append(current)
            waiting.extend(current.values())
        elif isinstance(current, list):
            waiting.extend(current)
    return found
