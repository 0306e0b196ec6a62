"""Whatever a client sends, the service gets only requests that were decided, each with the caller's true name."""

from __future__ import annotations

import re
import ssl
from collections import Counter
from collections.abc import Iterator
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.mtls.proxy.running import Pki, RunningGateway
from tests.mtls.proxy.scripted import ScriptedService
from tests.mtls.proxy.test_http2 import Client
from tests.server.certificates import Credential

_T = TypeVar("_T")
_IDENTITY = "spiffe://example/svc/orders"
_INNER = b"GET /admin HTTP/1.1\r\nHost: a\r\nX-Intaglio-Identity: admin\r\nClient-Cert: :YWRtaW4=:\r\n\r\n"
_CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(_INNER), _INNER)


class _Pair:
    """A gateway and the service behind it, which reads bodies or not."""

    def __init__(self, tmp_path_factory: pytest.TempPathFactory, *, lax: bool) -> None:
        self.service = ScriptedService(lax=lax)
        self.gateway = RunningGateway(Pki(tmp_path_factory.mktemp("smuggling")), upstream=self.service.url)
        self.client: Credential = self.gateway.pki.client()
        # What was decided and has not arrived yet: the service may read it only while the next case runs, or never.
        self._under_way: Counter[tuple[str, str]] = Counter()

    def send(self, octets: bytes) -> bytes:
        """What comes back until nothing more does; the client closes its side after sending."""
        answer = b""
        with self.gateway.connect(self.client) as connection:
            try:
                connection.sendall(octets + b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                connection.settimeout(0.3)  # a request that is not complete gets no answer
                while part := connection.recv(65536):
                    answer += part
            except (OSError, ssl.SSLError):
                pass
        return answer

    def assert_only_decided_requests_arrived(self, octets: bytes) -> None:
        self.gateway.until(lambda: not len(self.gateway.proxy.connections))
        received, recorded = _taken(self.service.received), _taken(self.gateway.source.recorded)
        decided = self._under_way + Counter(
            (each.asked.method, each.asked.path) for each in recorded if each.asked.method and each.verdict.passes
        )
        arrived = Counter((each.method, each.target.partition("?")[0]) for each in received)
        self._under_way = decided - arrived
        assert not arrived - decided, f"{arrived - decided} by {octets!r}"
        for each in received:
            assert each.values("x-intaglio-identity") == [_IDENTITY], octets
            assert len(each.values("client-cert")) == 1, octets
            assert [host.lower() for host in each.values("host")] in (["a"], ["a:443"], ["b"]), octets
            assert not re.search(rb"(?i)^(content|transfer)_", each.head, re.MULTILINE), octets


def _taken(found: list[_T]) -> list[_T]:
    """What a list holds, which another thread may be adding to; it is taken out."""
    taken = list(found)
    del found[: len(taken)]
    return taken


@pytest.fixture(scope="module", params=["strict", "lax"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Pair]:
    made = _Pair(tmp_path_factory, lax=request.param == "lax")
    yield made
    made.gateway.close()
    made.service.close()


def _request(
    *lines: bytes, body: bytes = b"", method: bytes = b"POST", target: bytes = b"/", end: bytes = b"\r\n"
) -> bytes:
    return end.join([method + b" " + target + b" HTTP/1.1", b"Host: a", *lines, b"", b""]) + body


_LENGTH = b"Content-Length: %d" % len(_CHUNKED)
_ZERO = b"0\r\n\r\n" + _INNER
_KNOWN = {
    "CL.TE": _request(b"Content-Length: %d" % len(_ZERO), b"Transfer-Encoding: chunked", body=_ZERO),
    "TE.CL": _request(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=_CHUNKED),
    "TE.TE": _request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: x", b"Content-Length: 4", body=_CHUNKED),
    "TE x": _request(b"Transfer-Encoding: xchunked", _LENGTH, body=_CHUNKED),
    "TE list": _request(b"Transfer-Encoding: chunked, identity", body=_CHUNKED),
    "TE list of one": _request(b"Transfer-Encoding: , chunked", body=_CHUNKED),
    "TE quoted": _request(b'Transfer-Encoding: "chunked"', _LENGTH, body=_CHUNKED),
    "TE space": _request(b"Transfer-Encoding : chunked", _LENGTH, body=_CHUNKED),
    "TE tab": _request(b"Transfer-Encoding:\tchunked", _LENGTH, body=_CHUNKED),
    "TE vertical tab": _request(b"Transfer-Encoding:\x0bchunked", _LENGTH, body=_CHUNKED),
    "TE folded": _request(b"Transfer-Encoding:", b" chunked", _LENGTH, body=_CHUNKED),
    "TE behind a fold": _request(b"X: y", b" Transfer-Encoding: chunked", _LENGTH, body=_CHUNKED),
    "TE underscore": _request(b"Transfer_Encoding: chunked", _LENGTH, body=_CHUNKED),
    "TE case": _request(b"tRANSFER-eNCODING: cHUNKED", body=_CHUNKED),
    "TE behind a line feed": _request(b"X: y\nTransfer-Encoding: chunked", _LENGTH, body=_CHUNKED),
    "TE behind a carriage return": _request(b"X: y\rTransfer-Encoding: chunked", _LENGTH, body=_CHUNKED),
    "TE NUL": _request(b"Transfer-Encoding: chunked\0", _LENGTH, body=_CHUNKED),
    "TE in 1.0": _request(b"Transfer-Encoding: chunked", body=_CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "CL twice": _request(b"Content-Length: 0", _LENGTH, body=_CHUNKED),
    "CL list": _request(b"Content-Length: 0, %d" % len(_INNER), body=_INNER),
    "CL plus": _request(b"Content-Length: +%d" % len(_INNER), body=_INNER),
    "CL minus": _request(b"Content-Length: -1", body=_INNER),
    "CL hex": _request(b"Content-Length: 0x10", body=_INNER),
    "CL huge": _request(b"Content-Length: " + b"9" * 5000, body=_INNER),
    "CL over 64 bits": _request(b"Content-Length: 18446744073709551616", body=_INNER),
    "CL underscore": _request(b"Content_Length: %d" % len(_INNER), body=_INNER),
    "CL of GET": _request(b"Content-Length: %d" % len(_INNER), body=_INNER, method=b"GET"),
    "chunks of GET": _request(b"Transfer-Encoding: chunked", body=_CHUNKED, method=b"GET"),
    "chunk extension": _request(b"Transfer-Encoding: chunked", body=b"1;" + b"x\r" * 9 + b"\r\na\r\n0\r\n\r\n"),
    "chunk line feed": _request(b"Transfer-Encoding: chunked", body=b"1;\n" + b"a\r\n0\r\n\r\n"),
    "chunk size overflow": _request(b"Transfer-Encoding: chunked", body=b"10000000000000001\r\na\r\n0\r\n\r\n"),
    "chunk size signed": _request(b"Transfer-Encoding: chunked", body=b"-1\r\na\r\n0\r\n\r\n"),
    "chunk size prefix": _request(b"Transfer-Encoding: chunked", body=b"0x1\r\na\r\n0\r\n\r\n"),
    "chunk without end": _request(b"Transfer-Encoding: chunked", body=b"1\r\nab0\r\n\r\n"),
    "chunk end of two others": _request(b"Transfer-Encoding: chunked", body=b"1\r\naXX0\r\n\r\n"),
    "trailers": _request(
        b"Transfer-Encoding: chunked", b"Trailer: X-Intaglio-Identity",
        body=b"0\r\nX-Intaglio-Identity: admin\r\nContent-Length: 9\r\n\r\n",
    ),
    "trailers as head": _request(b"Transfer-Encoding: chunked", body=b"0\r\n" + _INNER),
    "two hosts": _request(b"Host: b"),
    "host in target": _request(target=b"http://b/"),
    "host with userinfo": _request(target=b"http://a@b/"),
    "absolute": _request(target=b"https://a/"),
    "hop by hop": _request(b"Connection: x-intaglio-identity, client-cert, host, close", method=b"GET"),
    "hop by hop length": _request(b"Connection: content-length", b"Content-Length: %d" % len(_INNER), body=_INNER),
    "hop by hop chunks": _request(b"Connection: transfer-encoding", b"Transfer-Encoding: chunked", body=_CHUNKED),
    "line feeds": _request(b"Content-Length: 0", body=_INNER, end=b"\n"),
    "empty lines first": b"\r\n\r\n" + _request(),
    "space first": b" " + _request(),
    "folded first": _request(method=b"GET").replace(b"Host", b" X: y\r\nHost"),
    "target of two words": _request(target=b"/ HTTP/1.1\tx"),
    "line break in target": _request(target=b"/%0d%0aX: y"),
    "version": _request().replace(b"HTTP/1.1", b"HTTP/1.9"),
    "version 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "asterisk": _request(target=b"*", method=b"GET"),
    "expect": _request(b"Expect: 100-continue", b"Content-Length: %d" % len(_INNER), body=_INNER),
    "expect folded": _request(b"Expect:", b" 100-continue", b"Content-Length: %d" % len(_INNER), body=_INNER),
    "expect other": _request(b"Expect: y", b"Content-Length: 0"),
    "upgrade with body": _request(b"Connection: upgrade", b"Upgrade: websocket", _LENGTH, body=_CHUNKED),
    "upgrade h2c": _request(b"Connection: upgrade", b"Upgrade: h2c", b"HTTP2-Settings: AAAA", method=b"GET"),
    "two in one": _request(b"Content-Length: 0") + _INNER,
}  # fmt: skip


@pytest.mark.parametrize("name", _KNOWN)
def test_known_form_of_smuggling_smuggles_nothing(pair: _Pair, name: str) -> None:
    pair.send(_KNOWN[name])
    pair.assert_only_decided_requests_arrived(_KNOWN[name])


_NAMES = [
    b"Transfer-Encoding", b"Content-Length", b"Transfer_Encoding", b"Host", b"Connection", b"Expect", b"Upgrade",
    b"X-Intaglio-Identity", b"client_cert", b"X", b"TE", b"Trailer",
]  # fmt: skip
_VALUES = [
    b"chunked", b"identity", b"0", b"5", b"%d" % len(_CHUNKED), b"a", b"close", b"keep-alive", b"upgrade", b"websocket",
    b"100-continue", b"x-intaglio-identity", b"", b"chunked, chunked", b"\x0bchunked", b"trailers",
]  # fmt: skip
_field = st.builds(
    lambda name, colon, value, end: name + colon + value + end,
    st.sampled_from(_NAMES),
    st.sampled_from([b": ", b":", b" :", b":\t", b"\r\n :", b":\r\n "]),
    st.sampled_from(_VALUES),
    st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b" \r\n", b"\0\r\n"]),
)
_body = st.sampled_from(
    [b"", _INNER, _CHUNKED, _ZERO, b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"5;a=b\nhello\r\n0\r\n\r\n", b"hello"]
)
_octets = st.builds(
    lambda method, fields, body: method + b" / HTTP/1.1\r\nHost: a\r\n" + b"".join(fields) + b"\r\n" + body,
    st.sampled_from([b"GET", b"POST", b"HEAD", b"DELETE", b"OPTIONS"]),
    st.lists(_field, max_size=5),
    _body,
)


@given(octets=st.lists(_octets, min_size=1, max_size=3).map(b"".join))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_mixture_of_framings_smuggles_anything(pair: _Pair, octets: bytes) -> None:
    pair.send(octets)
    pair.assert_only_decided_requests_arrived(octets)


_H2_NAMES = [
    "content-length", "transfer-encoding", "connection", "host", "x", "x-intaglio-identity", "client_cert", "te",
    "cookie", "upgrade", "x: y\r\nx-intaglio-identity", "Content-Length", "expect", " x", "x\0", ":path",
    ":authority", "",
]  # fmt: skip
_H2_VALUES = [
    "0", "5", "chunked", "a", "b", "admin", "close", "x\r\nX-Intaglio-Identity: admin", "x\nTransfer-Encoding: chunked",
    "x\0", "x\ry", "\x0b", "trailers", "", " 5", "5 ", "websocket", "a\r\n\r\nGET /admin HTTP/1.1\r\nHost: a",
]  # fmt: skip
_PSEUDO = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "GET / HTTP/1.1\r\nX:", "CONNECT", ""]),
        "path": st.sampled_from(["/", "*", "", "http://b/", "/ HTTP/1.1\r\nX: y", "/a b", "//b", "/\r\n\r\nGET /b"]),
        "authority": st.sampled_from(["a", "A", "b", "", "a\r\nX: y", "a@b", "a:443", "a, b"]),
        "scheme": st.sampled_from(["https", "http", "http://b/?", "", "https\r\n"]),
    },
)
_FIELDS = st.lists(st.tuples(st.sampled_from(_H2_NAMES), st.sampled_from(_H2_VALUES)), max_size=4)
_BODIES = st.none() | st.lists(st.sampled_from([b"", _INNER, _CHUNKED, b"hello"]), max_size=3)


@given(pseudo=_PSEUDO, fields=_FIELDS, body=_BODIES)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_in_http2_becomes_two_requests_of_http1(
    pair: _Pair, pseudo: dict[str, str], fields: list[tuple[str, str]], body: list[bytes] | None
) -> None:
    client = Client(pair.gateway, pair.client)
    try:
        stream = client.head(*fields, end=body is None, **{"authority": "a", **pseudo})
        for part in body or ():
            client.state.send_data(stream, part)
        if body is not None:
            client.state.end_stream(stream)
        client.flush()
        client.socket.settimeout(0.3)
        client.answer(stream)
    except OSError:
        pass
    finally:
        client.socket.close()
    pair.assert_only_decided_requests_arrived(repr((pseudo, fields, body)).encode())
