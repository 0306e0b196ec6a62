"""Apache httpd: every virtual host with TLS, with what it inherits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from intaglio.mtls.ingresses.checking.findings import Finding, finding, invalid

_SECTION = re.compile(r"<(/?)([A-Za-z]+)(?:\s+([^>]*))?>")
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'|(\S+)')
_OLD = ("sslv3", "tlsv1", "tlsv1.1")
_TRANSPARENT = frozenset({"ifmodule", "ifdefine", "ifversion", "ifdirective", "ifsection", "macro"})


@dataclass
class Host:
    """Directives of a virtual host, or of the server itself: lower-case name, arguments, line."""

    line: int
    directives: list[tuple[str, list[str], int]] = field(default_factory=list)

    def last(self, name: str) -> tuple[list[str], int] | None:
        """Arguments and line of the last directive of this name."""
        for found, arguments, line in reversed(self.directives):
            if found == name:
                return arguments, line
        return None


def check(text: str) -> list[Finding]:
    """The findings of an Apache configuration. Raises InvalidInput (``configuration-invalid``)."""
    server, hosts = parse(text)
    speaking = [host for host in hosts if _word(server, host, "sslengine") in ("on", "optional")]
    if not speaking and _word(server, server, "sslengine") in ("on", "optional"):
        speaking = [server]
    if not speaking:
        return [finding("client-certificate-off", 0, "No virtual host here speaks TLS.")]
    return [each for host in speaking for each in _host(server, host)]


def _host(server: Host, host: Host) -> Iterator[Finding]:
    verify = _word(server, host, "sslverifyclient") or "none"
    line = _line(server, host, "sslverifyclient")
    if verify == "none":
        yield finding("client-certificate-off", line, "This host asks for no client certificate.")
    elif verify != "require":
        yield finding("client-certificate-optional", line, f"SSLVerifyClient {verify} lets clients in without one.")
    anchors = [_word(server, host, name) for name in ("sslcacertificatefile", "sslcacertificatepath")]
    if verify != "none" and not any(anchors):
        yield finding("no-trust-anchors", line, "There is no SSLCACertificateFile.")
    looks = (_word(server, host, "sslcarevocationcheck") or "none").split()[0] != "none"
    asks = _word(server, host, "sslocspenable") in ("on", "leaf")
    if not looks and not asks:
        yield finding("no-revocation", host.line, "Neither SSLCARevocationCheck nor SSLOCSPEnable is on.")
    yield from _protocols(server, host)
    if _word(server, host, "sslsessiontickets") != "off":
        yield finding("sessions-resumed", _line(server, host, "sslsessiontickets"), "SSLSessionTickets is not off.")
    yield from _upstreams(server, host)


def _protocols(server: Host, host: Host) -> Iterator[Finding]:
    allowed = (_all(server, host, "sslprotocol") or ["all", "-sslv3"])
    old: set[str] = set()
    for word in (word.lower() for word in allowed):
        named = word.lstrip("+-")
        these = set(_OLD) if named == "all" else {named} & set(_OLD)
        old = old - these if word.startswith("-") else old | these
    # OpenSSL builds of today have no SSLv3, so `all` alone does not allow it.
    if old := old - {"sslv3"}:
        yield finding("old-tls", _line(server, host, "sslprotocol"), f"{', '.join(sorted(old))} is allowed.")


def _upstreams(server: Host, host: Host) -> Iterator[Finding]:
    passes = [(arguments, line) for name, arguments, line in host.directives if name in ("proxypass", "proxypassmatch")]
    for arguments, line in passes:
        if any(argument.startswith(("https:", "wss:", "h2:")) for argument in arguments):
            if (_word(server, host, "sslproxyverify") or "none") != "require":
                yield finding("upstream-unverified", line, "SSLProxyVerify is not require.")
            if "off" in (_word(server, host, "sslproxycheckpeername"), _word(server, host, "sslproxycheckpeerexpire")):
                yield finding("upstream-unverified", line, "Name or expiry of the service behind is not checked.")
    taken = {
        argument.lower()
        for name, arguments, _ in [*server.directives, *host.directives]
        if name == "requestheader" and arguments[:1] in (["unset"], ["set"])
        for argument in arguments[1:2]
    }
    if passes and not {"client-cert", "x-forwarded-client-cert"} <= taken:
        detail = "Client-Cert and X-Forwarded-Client-Cert of a client are passed on."
        yield finding("headers-forgeable", passes[0][1], detail)


def _all(server: Host, host: Host, name: str) -> list[str]:
    found = host.last(name) or server.last(name)
    return found[0] if found else []


def _word(server: Host, host: Host, name: str) -> str:
    return (_all(server, host, name) or [""])[0].lower()


def _line(server: Host, host: Host, name: str) -> int:
    found = host.last(name) or server.last(name)
    return found[1] if found else host.line


def parse(text: str) -> tuple[Host, list[Host]]:
    """The server and its virtual hosts. What stands in sections for places or conditions counts for the host: a
    directive that is there for a part only would otherwise be missed. Raises InvalidInput."""
    server = Host(1)
    hosts: list[Host] = []
    opened: list[str] = []
    current = server
    for line, raw in _lines(text):
        if matched := _SECTION.fullmatch(raw):
            closing, name = matched[1], matched[2].lower()
            if closing:
                if not opened or opened.pop() != name:
                    raise invalid(f"</{matched[2]}> closes what was not opened", line)
                current = server if name == "virtualhost" else current
            else:
                opened.append(name)
                if name == "virtualhost":
                    current = Host(line)
                    hosts.append(current)
            continue
        words = [next(group for group in match if group) if any(match) else "" for match in _WORD.findall(raw)]
        inside = [name for name in opened if name not in _TRANSPARENT and name != "virtualhost"]
        # A weaker setting for a place counts, a stronger one does not make the host strong.
        if words and (not inside or words[0].lower() not in ("sslverifyclient",) or words[1:2] != ["require"]):
            current.directives.append((words[0].lower(), words[1:], line))
    if opened:
        raise invalid(f"<{opened[-1]}> is not closed")
    return server, hosts


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, continued ones joined, without comments."""
    waiting, start = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        start = start or number
        if raw.endswith("\\"):
            waiting += raw[:-1] + " "
            continue
        whole = (waiting + raw).strip()
        if whole and not whole.startswith("#"):
            yield start, whole
        waiting, start = "", 0
