"""nginx: every ``server`` that speaks TLS, with what it inherits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from intaglio.mtls.ingresses.checking.findings import Finding, finding, invalid

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+)|(?P<line>\n)|(?P<comment>\#[^\n]*)|(?P<mark>[{};])
      |"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'
      |(?P<word>(?:\$\{[A-Za-z0-9_]*\}|\\.|[^\s{};"'\\])(?:\$\{[A-Za-z0-9_]*\}|\\.|[^\s{};\\])*)""",
    re.VERBOSE | re.DOTALL,
)
_DEEPEST = 50
_OLD = frozenset({"SSLv2", "SSLv3", "TLSv1", "TLSv1.1"})
_IDENTITY = frozenset({"client-cert", "x-forwarded-client-cert"})


@dataclass
class Directive:
    """A directive with its arguments, and those in its block."""

    name: str
    arguments: list[str]
    line: int
    block: list[Directive] = field(default_factory=list)
    parent: Directive | None = field(default=None, repr=False)

    def own(self, name: str) -> list[Directive]:
        """The directives of this name directly in the block."""
        return [each for each in self.block if each.name == name]

    def effective(self, name: str) -> Directive | None:
        """The directive that counts here: the one in the block, or of the nearest block around it."""
        block: Directive | None = self
        while block is not None:
            if own := block.own(name):
                return own[-1]
            block = block.parent
        return None

    def within(self) -> Iterator[Directive]:
        """Everything in the block, at any depth."""
        waiting = list(self.block)
        while waiting:
            current = waiting.pop()
            yield current
            waiting += current.block


def check(text: str) -> list[Finding]:
    """The findings of an nginx configuration. Raises InvalidInput (``configuration-invalid``)."""
    root = parse(text)
    servers = [each for each in root.within() if each.name == "server" and each.block and _speaks_tls(each)]
    if not servers:
        return [finding("client-certificate-off", 0, "No server here speaks TLS.")]
    return [each for server in servers for each in _server(server)]


def _speaks_tls(server: Directive) -> bool:
    listens = (argument for listen in server.own("listen") for argument in listen.arguments)
    return "ssl" in listens or server.effective("ssl_certificate") is not None


def _server(server: Directive) -> Iterator[Finding]:
    verify = server.effective("ssl_verify_client")
    value = verify.arguments[0] if verify and verify.arguments else "off"
    line = verify.line if verify else server.line
    if value == "off":
        yield finding("client-certificate-off", line, "This server asks for no client certificate.")
    elif value != "on":
        yield finding("client-certificate-optional", line, f"ssl_verify_client {value} lets clients in without one.")
    anchors = (server.effective(name) for name in ("ssl_client_certificate", "ssl_trusted_certificate"))
    if value != "off" and not any(anchors):
        yield finding("no-trust-anchors", line, "There is no ssl_client_certificate.")
    yield from _revocation(server)
    protocols = server.effective("ssl_protocols")
    if protocols and (old := sorted(_OLD & set(protocols.arguments))):
        yield finding("old-tls", protocols.line, f"{', '.join(old)} is allowed.")
    tickets = server.effective("ssl_session_tickets")
    if tickets is None or tickets.arguments != ["off"]:
        line = tickets.line if tickets else server.line
        yield finding("sessions-resumed", line, "ssl_session_tickets is not off.")
    yield from _refusals(server)
    yield from _upstreams(server)


def _revocation(server: Directive) -> Iterator[Finding]:
    crl, ocsp = server.effective("ssl_crl"), server.effective("ssl_ocsp")
    asks = ocsp is not None and ocsp.arguments[:1] in (["on"], ["leaf"])
    decided = any(each.name == "auth_request" and each.arguments != ["off"] for each in server.within())
    if crl is None and not asks and not decided and server.effective("auth_request") is None:
        yield finding("no-revocation", server.line, "Neither ssl_crl nor ssl_ocsp nor auth_request is set.")


def _refusals(server: Directive) -> Iterator[Finding]:
    """``error_page 495`` that leads a client with a bad certificate to the service after all."""
    for page in (each for each in [*server.own("error_page"), *_inherited(server, "error_page")] if each.arguments):
        codes, target = set(page.arguments[:-1]), page.arguments[-1]
        named = [each for each in server.own("location") if each.arguments[-1:] == [target]]
        served = any(
            each.name in _SERVING for location in named if not _asks(location) for each in location.within()
        )
        if codes & {"495", "496", "400"} and served:
            yield finding("refusal-bypassed", page.line, f"Refused clients are served by {target}.")


def _asks(location: Directive) -> bool:
    """Whether a location leads to the decision endpoint."""
    return any("/access/v1/" in word for each in location.within() for word in each.arguments)


_SERVING = frozenset({"proxy_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass", "root", "alias"})


def _inherited(server: Directive, name: str) -> list[Directive]:
    if server.own(name) or server.parent is None:
        return []
    return server.parent.own(name)


def _upstreams(server: Directive) -> Iterator[Finding]:
    for each in server.within():
        if each.name != "proxy_pass" or not each.arguments or each.parent is None:
            continue
        location = each.parent
        verify = location.effective("proxy_ssl_verify")
        if each.arguments[0].startswith("https:") and (verify is None or verify.arguments != ["on"]):
            yield finding("upstream-unverified", each.line, f"{each.arguments[0][:80]} is not verified.")
        if _asks(location):
            continue
        passed = location.effective("proxy_pass_request_headers")
        where: Directive | None = location
        while where is not None and not where.own("proxy_set_header"):
            where = where.parent
        told = {d.arguments[0].lower() for d in (where.own("proxy_set_header") if where else ()) if d.arguments}
        if not told >= _IDENTITY and not (passed and passed.arguments == ["off"]):
            missing = ", ".join(sorted(_IDENTITY - told))
            yield finding("headers-forgeable", each.line, f"A client may say {missing} of itself.")


def parse(text: str) -> Directive:
    """The directives of a configuration below one root. Raises InvalidInput."""
    root = Directive("", [], 1)
    current, words, first, line, position, depth = root, list[str](), 1, 1, 0, 0
    while position < len(text):
        matched = _TOKEN.match(text, position)
        if matched is None:
            raise invalid("This cannot be read", line)
        position = matched.end()
        kind = matched.lastgroup
        if kind in ("word", "single", "double"):
            first = line if not words else first
            words.append(matched[kind])
        elif kind == "mark" and matched["mark"] == "}":
            if words or current.parent is None:
                raise invalid("A brace closes what was not opened, or a semicolon is missing", line)
            current, depth = current.parent, depth - 1
        elif kind == "mark":
            if not words:
                raise invalid("A directive has no name", line)
            made = Directive(words[0], words[1:], first, parent=current)
            current.block.append(made)
            words = []
            if matched["mark"] == "{":
                current, depth = made, depth + 1
                if depth > _DEEPEST:
                    raise invalid(f"Blocks are nested more than {_DEEPEST} deep", line)
        line += matched[0].count("\n")
    if words or current is not root:
        raise invalid("The text ends inside a directive or a block", line)
    return root
