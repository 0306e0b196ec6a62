"""Policies in the Cedar language (docs.cedarpolicy.com): checked against one schema, compiled once, evaluated here.

A principal is whoever a certificate says, an action is an HTTP method, a resource is a route of an ingress. What no
rule permits is denied, and so is what a rule fails on.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import cedarpy

from intaglio.core.errors import Refused
from intaglio.mtls.access.values import PolicyOutcome
from intaglio.mtls.identities.values import CertifiedIdentity

LONGEST_POLICY = 64 * 1024
MOST_RULES = 500
#: Of one rule: brackets within brackets, and operators. Cedar's parser recurses over both on the stack of the thread,
#: whose end would be the end of the process; it bears about ten times as many brackets.
MOST_NESTED, MOST_OPERATORS = 50, 300
_LONGEST_ID = 100

READING = ("GET", "HEAD", "OPTIONS")
WRITING = ("POST", "PUT", "PATCH", "DELETE", "OTHER")

_APPLIES = (
    "appliesTo { principal: [Identity], resource: [Route], context: { source_ip: ipaddr, tls_version: String } }"
)
SCHEMA = f"""\
entity Identity {{
  kind: String, name: String, service: String, team: String, environment: String, domain: String,
  roles: Set<String>, version: String, uri: String, issuer: String, email: String
}};
entity Route {{ ingress: String, host: String, path: String }};
action "read", "write";
action {", ".join(f'"{name}"' for name in READING)} in [Action::"read"] {_APPLIES};
action {", ".join(f'"{name}"' for name in WRITING)} in [Action::"write"] {_APPLIES};
"""

_ACTIONS = [
    {"uid": {"type": "Action", "id": name}, "attrs": {}, "parents": [{"type": "Action", "id": group}]}
    for group, names in (("read", READING), ("write", WRITING))
    for name in names
]


@dataclass(frozen=True, slots=True)
class PolicyRequest:
    """What a policy is asked. ``issuer`` is the CA of the certificate, ``path`` as of :func:`normalized_path`."""

    identity: CertifiedIdentity | None
    issuer: str = ""
    ingress: str = ""
    method: str = "GET"
    host: str = ""
    path: str = "/"
    source_ip: str = "0.0.0.0"  # noqa: S104 - an address that is in no network of a rule
    tls_version: str = ""

    def attributes(self) -> dict[str, Any]:
        """The principal as policies see it; what a certificate does not say is empty."""
        who = self.identity
        if who is None:
            return {name: [] if name == "roles" else "" for name in _ATTRIBUTES} | {"issuer": self.issuer}
        return {
            "kind": str(who.kind),
            "name": who.name,
            "service": who.service,
            "team": who.team,
            "environment": who.environment,
            "domain": who.domain,
            "roles": list(who.roles),
            "version": who.version,
            "uri": who.uri,
            "issuer": self.issuer,
            "email": who.email,
        }


_ATTRIBUTES = (
    "kind", "name", "service", "team", "environment", "domain", "roles", "version", "uri", "issuer", "email",
)  # fmt: skip


@dataclass(frozen=True)
class CompiledPolicy:
    """A version of a policy, ready to be asked."""

    name: str
    version: int
    rules: cedarpy.PolicySet = field(repr=False)
    looks_at_source: bool = True
    #: SHA-256 of the text: a policy that was retired may have a successor of the same name and version.
    digest: bytes = field(default=b"", repr=False)

    def evaluate(self, request: PolicyRequest) -> PolicyOutcome:
        """Ask. Never raises: what cannot be evaluated is denied, and its rule named; so is who comes from nobody knows
        where, when rules ask for the address."""
        if self.looks_at_source and not _is_address(request.source_ip):
            return PolicyOutcome(self.name, self.version, False, ("unknown address",))
        asked = {
            "principal": _PRINCIPAL,
            "action": {"type": "Action", "id": action_of(request.method)},
            "resource": _RESOURCE,
            "context": {
                "source_ip": {"__extn": {"fn": "ip", "arg": _address(request.source_ip)}},
                "tls_version": request.tls_version,
            },
        }
        try:
            result = cedarpy.is_authorized(asked, self.rules, _entities(request))
        except ValueError:
            return PolicyOutcome(self.name, self.version, False, ("not evaluated",))
        named = result.diagnostics.id_annotations_by_reason
        rules = tuple(sorted(named.get(reason) or reason for reason in result.diagnostics.reasons))
        failed = bool(result.diagnostics.errors)
        return PolicyOutcome(self.name, self.version, result.allowed and not failed, rules)


_PRINCIPAL = {"type": "Identity", "id": "caller"}
_RESOURCE = {"type": "Route", "id": "route"}


def _entities(request: PolicyRequest) -> str:
    route = {"ingress": request.ingress, "host": request.host, "path": request.path}
    return json.dumps(
        [
            {"uid": _PRINCIPAL, "attrs": request.attributes(), "parents": []},
            {"uid": _RESOURCE, "attrs": route, "parents": []},
            *_ACTIONS,
        ]
    )


def action_of(method: str) -> str:
    """The Cedar action of an HTTP method; methods are case-sensitive (RFC 9110 section 9.1)."""
    return method if method in READING or method in WRITING else "OTHER"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _address(text: str) -> str:
    # No rule looks at what is no address, yet an empty text could not be evaluated.
    return str(ipaddress.ip_address(text)) if _is_address(text) else "0.0.0.0"  # noqa: S104


# ---- compiling -------------------------------------------------------------------------------------------------------


def compile_policy(name: str, version: int, text: str) -> CompiledPolicy:
    """Compile a policy. Raises Refused (``policy-invalid``) naming every rule that does not fit the schema."""
    check_policy(text)
    # Attributes can be spelt with escapes, ``context`` cannot.
    digest = hashlib.sha256(text.encode()).digest()
    return CompiledPolicy(name, version, cedarpy.PolicySet.from_str(text), "context" in text, digest)


def check_policy(text: str) -> None:
    """Raise Refused (``policy-invalid``) unless the text is Cedar that fits the schema."""
    if len(text) > LONGEST_POLICY:
        raise _invalid(f"it is longer than {LONGEST_POLICY} characters")
    _check_nesting(text)
    result = cedarpy.validate_policies(text, _schema())
    if not result.validation_passed:
        raise _invalid("; ".join(error.error for error in result.errors[:5]) or "it does not fit the schema")
    rules = _rules(text)
    if not 0 < len(rules) <= MOST_RULES:
        raise _invalid(f"it has {len(rules)} rules; 1 to {MOST_RULES} are possible")
    for rule in rules.values():
        name = str(rule.get("annotations", {}).get("id") or "")
        if len(name) > _LONGEST_ID or not name.isprintable():
            raise _invalid(f"the id of a rule has at most {_LONGEST_ID} printable characters")


_LEXEMES = re.compile(
    r'"(?:[^"\\]|\\.)*"|//[^\r\n]*|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<end>;)'
    r"|(?P<operator>&&|\|\||[=!<>]=|[-+*!.<>]|\b(?:if|in|has|like|is)\b)"
)


def _check_nesting(text: str) -> None:
    depth = operators = 0
    for kind in _kinds(text):
        if kind == "end" and depth == 0:
            operators = 0
        depth = max(0, depth + {"open": 1, "close": -1}.get(kind, 0))
        operators += kind == "operator"
        if depth > MOST_NESTED:
            raise _invalid(f"a rule has more than {MOST_NESTED} brackets within each other")
        if operators > MOST_OPERATORS:
            raise _invalid(f"a rule has more than {MOST_OPERATORS} operators; write several rules")


def _kinds(text: str) -> Iterator[str]:
    """What counts in a policy: brackets, operators and the ends of rules, outside of texts and comments."""
    return (found.lastgroup for found in _LEXEMES.finditer(text) if found.lastgroup)


def admits_anybody(text: str) -> bool:
    """Whether a permit rule asks nothing of the principal, so that any valid certificate will do."""
    return any(
        rule.get("effect") == "permit" and rule["principal"]["op"] in ("All", "is") and not _mentions_principal(rule)
        for rule in _rules(text).values()
    )


def _rules(text: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"]
    except RecursionError:
        raise _invalid("it is nested too deeply") from None
    except (ValueError, KeyError) as error:
        raise _invalid(str(error)) from None
    return found


def _mentions_principal(rule: Mapping[str, Any]) -> bool:
    wanted = [condition["body"] for condition in rule.get("conditions", ()) if condition["kind"] == "when"]
    return '{"Var": "principal"}' in json.dumps(wanted)


@lru_cache(maxsize=1)
def _schema() -> cedarpy.Schema:
    return cedarpy.Schema.from_str(SCHEMA)


def _invalid(why: str) -> Refused:
    return Refused(
        f"The policy is not valid: {why.rstrip('.')}.",
        code="policy-invalid",
        remedy="Correct it; `intaglio mtls policy schema` shows what rules may name.",
        target="source",
    )
