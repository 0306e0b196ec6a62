"""The short form of policies, a rule per line, translated to Cedar.

    allow if kind == service and service == "payments" and environment == "prod" and team == "finance"
    allow GET,HEAD /reports/* if "auditor" in roles or team in ["finance", "audit"]
    deny write /admin/* if not source_ip in "10.0.0.0/8"

A rule is ``allow`` or ``deny``, then (optional) methods (or ``read``, ``write``), then (optional) a path pattern with
``*``, then (optional) ``if`` and a condition. What no rule allows is denied; a ``deny`` that fits outweighs every
``allow``. ``#`` starts a comment line.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from intaglio.core.errors import Refused
from intaglio.mtls.access.cedar import LONGEST_POLICY, READING, WRITING

_PRINCIPAL = ("kind", "name", "service", "team", "environment", "domain", "version", "uri", "issuer", "email")
_PLACES = {
    **{name: f"principal.{name}" for name in (*_PRINCIPAL, "roles")},
    **{name: f"resource.{name}" for name in ("ingress", "host", "path")},
    **{name: f"context.{name}" for name in ("source_ip", "tls_version")},
}
_TOKEN = re.compile(r'\s*(?:("(?:[^"\\\x00-\x1f])*")|(==|!=|[()\[\],])|([A-Za-z0-9_./:@*~-]+))')
_RULE = re.compile(r"(allow|deny)\b(?:\s+(?!if\b)([A-Za-z]+(?:,[A-Za-z]+)*))?(?:\s+(/\S*))?(?:\s+if\s+(.+))?\s*")
_WORDS = {"and", "or", "not", "in", "like", "if"}
_DEEPEST = 20


def to_cedar(text: str) -> str:
    """The Cedar text of a policy in the short form. Raises Refused (``policy-invalid``) naming line and fault."""
    if len(text) > LONGEST_POLICY:
        raise _invalid(0, f"it is longer than {LONGEST_POLICY} characters")
    rules = [
        _rule(number, line.strip())
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.strip().startswith("#")
    ]
    return "\n".join(rules)


def _rule(number: int, line: str) -> str:
    matched = _RULE.fullmatch(line)
    if matched is None:
        raise _invalid(number, "a rule is: allow|deny [METHODS] [/PATH] [if CONDITION]")
    effect, methods, path, condition = matched.groups()
    wanted = [f'resource.path like "{_pattern(number, path)}"'] if path else []
    if condition:
        wanted.append(f"({_Condition(number, _tokens(number, condition)).whole()})")
    when = f" when {{ {' && '.join(wanted)} }}" if wanted else ""
    action = _action(number, methods.split(",")) if methods else "action"
    keyword = "permit" if effect == "allow" else "forbid"
    return f'@id("line {number}")\n{keyword} (principal, {action}, resource){when};'


def _action(number: int, methods: Sequence[str]) -> str:
    known = {*READING, *WRITING, "read", "write"}
    if unknown := [method for method in methods if method not in known]:
        raise _invalid(number, f'"{unknown[0][:20]}" is none of {", ".join(sorted(known))}')
    named = ", ".join(f'Action::"{method}"' for method in methods)
    return f"action in [{named}]"


def _pattern(number: int, text: str) -> str:
    if '"' in text or "\\" in text or not text.isprintable():
        raise _invalid(number, "a path pattern has no quotes or backslashes")
    return text


@dataclass(frozen=True)
class _Token:
    """``kind`` is text (quoted), symbol or word."""

    kind: str
    value: str


def _tokens(number: int, text: str) -> list[_Token]:
    found, position = [], 0
    text = text.rstrip()
    while position < len(text):
        matched = _TOKEN.match(text, position)
        if matched is None:
            raise _invalid(number, f'"{text[position : position + 20].strip()}" is not understood')
        quoted, symbol, word = matched.groups()
        if quoted is not None:
            found.append(_Token("text", quoted[1:-1]))
        else:
            found.append(_Token("symbol", symbol) if symbol else _Token("word", word))
        position = matched.end()
    return found


class _Condition:
    """Recursive descent over the tokens of one condition: or, and, not, comparisons."""

    def __init__(self, number: int, tokens: Sequence[_Token]) -> None:
        self._number = number
        self._tokens = tokens
        self._position = 0
        self._depth = 0

    def whole(self) -> str:
        made = self._either()
        if self._position < len(self._tokens):
            raise _invalid(self._number, f'"{self._tokens[self._position].value[:20]}" is not expected here')
        return made

    def _either(self) -> str:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _invalid(self._number, "it is nested too deeply")
        parts = [self._all()]
        while self._takes("or"):
            parts.append(self._all())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else f"({' || '.join(parts)})"

    def _all(self) -> str:
        parts = [self._one()]
        while self._takes("and"):
            parts.append(self._one())
        return " && ".join(parts)

    def _one(self) -> str:
        if self._takes("not"):
            return f"!({self._one()})" if self._next_is("(") else f"!({self._comparison()})"
        if self._takes("("):
            inner = self._either()
            self._expect(")")
            return f"({inner})"
        return self._comparison()

    def _comparison(self) -> str:
        first = self._token()
        if self._takes("in"):
            return self._membership(first)
        place = self._place(first)
        for operator in ("==", "!="):
            if self._takes(operator):
                return f"{place} {operator} {_quoted(self._value())}"
        if self._takes("like"):
            return f'{place} like "{self._value()}"'
        raise _invalid(self._number, f'after "{first.value[:20]}" comes one of == != in like')

    def _membership(self, first: _Token) -> str:
        if self._takes("["):
            values = [self._value()]
            while self._takes(","):
                values.append(self._value())
            self._expect("]")
            return f"[{', '.join(map(_quoted, values))}].contains({self._place(first)})"
        second = self._token()
        if first.kind == "word" and first.value == "source_ip":
            return f"context.source_ip.isInRange(ip({_quoted(self._network(second.value))}))"
        if second.value != "roles" or second.kind != "word":
            raise _invalid(self._number, 'write: "ROLE" in roles, ATTRIBUTE in ["A", "B"], or source_ip in "NETWORK"')
        return f"principal.roles.contains({_quoted(first.value)})"

    def _place(self, token: _Token) -> str:
        if token.kind != "word" or token.value not in _PLACES:
            raise _invalid(self._number, f'"{token.value[:20]}" is none of {", ".join(_PLACES)}')
        if token.value in ("roles", "source_ip"):
            raise _invalid(self._number, f'{token.value} is asked with "in"')
        return _PLACES[token.value]

    def _network(self, text: str) -> str:
        try:
            return str(ipaddress.ip_network(text))
        except ValueError:
            raise _invalid(self._number, f'"{text[:40]}" is not a network') from None

    def _value(self) -> str:
        token = self._token()
        if token.kind == "symbol" or (token.kind == "word" and token.value in _WORDS):
            raise _invalid(self._number, f'"{token.value}" is not a value')
        return token.value

    def _token(self) -> _Token:
        if self._position >= len(self._tokens):
            raise _invalid(self._number, "the condition ends too early")
        self._position += 1
        return self._tokens[self._position - 1]

    def _next_is(self, value: str) -> bool:
        return self._position < len(self._tokens) and self._is(self._tokens[self._position], value)

    def _takes(self, value: str) -> bool:
        if self._next_is(value):
            self._position += 1
            return True
        return False

    def _expect(self, value: str) -> None:
        if not self._takes(value):
            raise _invalid(self._number, f'"{value}" is missing')

    @staticmethod
    def _is(token: _Token, value: str) -> bool:
        return token.kind != "text" and token.value == value


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _invalid(number: int, why: str) -> Refused:
    where = f"line {number}: " if number else ""
    return Refused(
        f"The policy is not valid: {where}{why}.",
        code="policy-invalid",
        remedy='Write lines like: allow GET /reports/* if team == "finance" and "auditor" in roles',
        target="source",
    )
