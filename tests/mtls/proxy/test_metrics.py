"""What a gateway tells Prometheus."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
from tests.mtls.proxy.running import RunningGateway
from tests.mtls.proxy.standalone import Standalone, standalone
from tests.support.product import eventually

from intaglio.mtls.proxy import metrics


def _number(text: str, name: str, **labels: str) -> float:
    """The value of a sample; 0 when there is none."""
    wanted = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    for line in text.splitlines():
        found = re.fullmatch(r"intaglio_mtls_gateway_(\w+)\{(.*)\} (\S+)", line)
        if found and found[1] == name and ",".join(sorted(found[2].split(","))) == wanted:
            return float(found[3])
    return 0.0


def _scrape(gateway: Standalone) -> str:
    return httpx.get(gateway.said("Metrics are at ", ".\n"), timeout=10).raise_for_status().text


def test_gateway_on_its_own_counts_what_happens() -> None:
    with standalone("--metrics", "127.0.0.1:0", identities="spiffe://example/svc/orders") as gateway:
        with gateway.client() as entitled:
            assert [entitled.get("/").status_code for _ in range(3)] == [200] * 3
            assert _number(_scrape(gateway), "connections", state="open") == 1
        with gateway.client("stranger") as stranger:
            assert stranger.get("/").status_code == 403
        with gateway.client(None) as nobody, pytest.raises(httpx.TransportError):
            nobody.get("/")
        with gateway.client() as entitled:
            assert entitled.get("/odd").status_code == 502
        eventually(lambda: _number(_scrape(gateway), "connections", state="open") == 0, what="all connections end")
        text = _scrape(gateway)
        assert _number(text, "requests_total", version="1.1", status="200") == 3
        assert _number(text, "requests_total", version="1.1", status="403") == 1
        assert _number(text, "refusals_total", at="request", reason="policy_denied") == 1
        assert _number(text, "refusals_total", at="handshake", reason="no_certificate") == 1
        assert _number(text, "handshakes_total", result="accepted") == 3
        assert _number(text, "upstream_failures_total", code="upstream-failed") == 1
        assert _number(text, "connections", state="handshake") == 0
        assert _number(text, "request_duration_seconds_count", version="1.1") == 4


def test_metrics_are_for_this_host_alone() -> None:
    with pytest.raises(AssertionError, match="no loopback address"), standalone("--metrics", "0.0.0.0:0"):
        pass


def test_cut_connections_are_counted(new_gateway: Callable[..., RunningGateway]) -> None:
    gateway = new_gateway()
    credential = gateway.pki.client()
    before = _number(metrics.exposition(), "connections_cut_total", reason="revoked")
    with gateway.connect(credential) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        gateway.pki.revoke(credential)
        while connection.recv(65536):
            pass
    assert _number(metrics.exposition(), "connections_cut_total", reason="revoked") == before + 1


def test_what_would_be_refused_is_counted_where_nothing_is(permissive: RunningGateway) -> None:
    before = _number(metrics.exposition(), "observed_total", reason="no_certificate")
    assert permissive.get(None).status_code == 200
    assert _number(metrics.exposition(), "observed_total", reason="no_certificate") == before + 1
