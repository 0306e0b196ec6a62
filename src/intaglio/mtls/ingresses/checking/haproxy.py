"""HAProxy: every ``bind`` with TLS, and every ``server`` that is spoken to with it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from intaglio.mtls.ingresses.checking.findings import Finding, finding, invalid

#: HAProxy itself stops at 2048; the lexer takes quadratic time.
_LONGEST_LINE = 8192
_SECTIONS = frozenset(
    {"global", "defaults", "frontend", "backend", "listen", "peers", "resolvers", "userlist", "mailers", "program",
     "cache", "http-errors", "ring", "fcgi-app", "crt-store"}
)  # fmt: skip
_OLD = frozenset({"SSLv3", "TLSv1.0", "TLSv1.1"})


@dataclass
class Section:
    """A section: what it is, its name, and its lines as words with their number."""

    kind: str
    name: str
    line: int
    lines: list[tuple[int, list[str]]] = field(default_factory=list)


def check(text: str) -> list[Finding]:
    """The findings of a HAProxy configuration. Raises InvalidInput (``configuration-invalid``)."""
    sections = parse(text)
    found: list[Finding] = []
    demanded = False
    for section in sections:
        for line, words in section.lines:
            if words[0] == "bind" and "ssl" in words[1:]:
                demanded = True
                found += _bind(section, line, words)
            elif words[0] in ("server", "default-server", "server-template") and _value(words, "verify") == "none":
                found.append(finding("upstream-unverified", line, "The service behind is not verified (verify none)."))
            elif words[:2] == ["ssl-server-verify", "none"]:
                found.append(finding("upstream-unverified", line, "ssl-server-verify none verifies no service behind."))
            elif words[0] in ("ssl-default-bind-options", "ssl-default-server-options"):
                found += _old(line, words)
    if not demanded:
        found.append(finding("client-certificate-off", 0, "No bind line here speaks TLS."))
    return found


def _bind(section: Section, line: int, words: list[str]) -> Iterator[Finding]:
    verify = _value(words, "verify") or "none"
    if verify == "none":
        yield finding("client-certificate-off", line, "This bind line asks for no client certificate.")
    elif verify != "required":
        yield finding("client-certificate-optional", line, f"verify {verify} lets clients in without one.")
    if verify != "none" and _value(words, "ca-file") is None:
        yield finding("no-trust-anchors", line, "There is no ca-file.")
    for option in ("crt-ignore-err", "ca-ignore-err"):
        if ignored := _value(words, option):
            rule = "expiry-ignored" if ignored == "10" else "errors-ignored"
            yield finding(rule, line, f"{option} {ignored} lets in what did not verify.")
    asks = any(words[:1] in (["http-request"], ["tcp-request"]) and _asks(words) for _, words in section.lines)
    if _value(words, "crl-file") is None and not asks:
        yield finding("no-revocation", line, "There is no crl-file, and nothing is asked about clients.")
    if "no-tls-tickets" not in words:
        yield finding("sessions-resumed", line, "There is no no-tls-tickets.")
    yield from _old(line, words)
    removed = " ".join(" ".join(each) for _, each in section.lines if "del-header" in each or "set-header" in each)
    if "client" not in removed.lower():
        detail = "Client-Cert and X-Forwarded-Client-Cert of a client are passed on."
        yield finding("headers-forgeable", line, detail)


def _asks(words: list[str]) -> bool:
    return any(word.startswith("lua.") for word in words) or "send-spoe-group" in words


def _old(line: int, words: list[str]) -> Iterator[Finding]:
    lowest = _value(words, "ssl-min-ver")
    forced = [word for word in words if word in ("force-sslv3", "force-tlsv10", "force-tlsv11")]
    if lowest in _OLD or forced:
        yield finding("old-tls", line, f"{lowest if lowest in _OLD else forced[0]} is allowed.")


def _value(words: list[str], name: str) -> str | None:
    for at, word in enumerate(words[:-1]):
        if word == name:
            return words[at + 1]
    return None


def parse(text: str) -> list[Section]:
    """The sections of a configuration. Raises InvalidInput."""
    sections: list[Section] = []
    for number, raw in enumerate(text.splitlines(), 1):
        words = _words(raw, number)
        if not words:
            continue
        if words[0] in _SECTIONS:
            sections.append(Section(words[0], words[1] if len(words) > 1 else "", number))
        elif not sections:
            raise invalid("This stands outside of a section", number)
        else:
            sections[-1].lines.append((number, words))
    return sections


def _words(raw: str, number: int) -> list[str]:
    """The words of a line: quotes, backslashes and comments as in HAProxy's manual, section 2.2."""
    if len(raw) > _LONGEST_LINE:
        raise invalid(f"A line has at most {_LONGEST_LINE} characters", number)
    lexer = shlex.shlex(raw, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    try:
        return list(lexer)
    except ValueError:
        raise invalid("A quotation mark is not closed", number) from None
