"""``access-nginx``: nginx that asks our decision endpoint about every request, against nginx that only verifies."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import urllib.error
from collections.abc import Iterator

from tests.support.product import eventually
from tests.support.programs import program

from bench import access_house, load
from bench.figure import Figure
from bench.installation import Installation

CONNECTIONS, SECONDS = 32, 5.0
RATE, SHARE = 3_000, 0.25

_CONFIGURATION = """
daemon off;
worker_processes 2;
error_log stderr crit;
pid nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests 1000000;
    upstream decisions {{ server 127.0.0.1:{access}; keepalive 64; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate server.pem;
        ssl_certificate_key server.key;
        ssl_client_certificate clients-ca.pem;
        ssl_verify_client {verify};
        ssl_verify_depth 3;
        location / {{
            {ask}
            try_files /hello.txt =404;
        }}
        location = /decide {{
            internal;
            proxy_pass http://decisions/access/v1/nginx;
            proxy_http_version 1.1;
            proxy_pass_request_body off;
            proxy_pass_request_headers off;
            proxy_set_header Connection "";
            proxy_set_header Content-Length "";
            proxy_set_header X-Intaglio-Token "{token}";
            proxy_set_header X-Client-Cert $ssl_client_escaped_cert;
            proxy_set_header X-Client-Verify $ssl_client_verify;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Original-Method $request_method;
            proxy_set_header X-Original-URI $request_uri;
            proxy_set_header X-Original-Host $host;
            proxy_set_header X-TLS-Version $ssl_protocol;
            proxy_set_header X-TLS-Cipher $ssl_cipher;
        }}
    }}
}}
"""


def measure() -> Figure:
    """The two alternate, and the medians count."""
    figure = Figure("access-nginx")
    with access_house.house() as product:
        asyncio.run(_issue(product))
        _prepare(product)
        runs = [(_run(product, asks=False), _run(product, asks=True)) for _ in range(3)]
    plain, asking = (sorted(column, key=lambda run: run.rate)[1] for column in zip(*runs, strict=True))
    if set(asking.statuses) != {"200"}:
        raise RuntimeError(f"nginx answered {asking.statuses}")
    figure.add("decisions per second through nginx", asking.rate, "/s", ">=", RATE, f"p99 {asking.p99:.1f} ms")
    share = asking.rate / plain.rate
    figure.add("asking / only verifying", share, "", ">=", SHARE, f"{asking.rate:,.0f}/s of {plain.rate:,.0f}/s")
    figure.measured = {"asking": asking.__dict__, "plain": plain.__dict__}
    return figure


async def _issue(product: Installation) -> None:
    async with access_house.services(product) as made:
        await access_house.issued(made, product.work, 1)


def _prepare(product: Installation) -> None:
    (product.work / "html").mkdir()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", "server.key",
         "-out", "server.pem"], cwd=product.work, check=True, capture_output=True,
    )  # fmt: skip


def _run(product: Installation, *, asks: bool) -> load.Result:
    with _nginx(product, asks=asks) as port:
        return load.run(
            host="127.0.0.1",
            port=port,
            requests=[load.http_request("GET", f"/pay/{number}", "localhost") for number in range(20)],
            connections=CONNECTIONS,
            seconds=SECONDS,
            tls={
                "ca": str(product.work / "server.pem"),
                "cert": str(product.work / "client.crt"),
                "key": str(product.work / "client.key"),
                "hostname": "localhost",
            },
        )


@contextlib.contextmanager
def _nginx(product: Installation, *, asks: bool) -> Iterator[int]:
    import socket

    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
    folder = product.work
    (folder / "html" / "hello.txt").write_text("hello\n")
    configuration = _CONFIGURATION.format(
        access=product.runtime.port("access"),
        port=port,
        verify="optional_no_ca" if asks else "on",
        ask="auth_request /decide;" if asks else "",
        token=(folder / access_house.TOKEN).read_text().strip(),
    )
    (folder / "nginx.conf").write_text(configuration)
    process = subprocess.Popen(
        [program("nginx"), "-p", str(folder), "-c", "nginx.conf"], stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: _answers(port), what="nginx listens")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    import socket

    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except (OSError, urllib.error.URLError):
        return False
