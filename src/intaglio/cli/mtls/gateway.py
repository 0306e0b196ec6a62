"""`intaglio mtls gateway`: the built-in reverse proxy."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intaglio.cli.commands import Cli, command, noun

if TYPE_CHECKING:
    from intaglio.mtls.proxy.reverse_proxy import ReverseProxy

app = noun("The mTLS gateway: a reverse proxy that knows every client.")

Config = Annotated[Path, typer.Option("--config", "-c", help="Configuration of the gateway (YAML).")]


@command(app, "run", example="intaglio mtls gateway run --config gateway.yaml", local=True)
def run(
    cli: Cli,
    config: Config,
    log_level: Annotated[str | None, typer.Option(help="TRACE, DEBUG, INFO, WARN, ERROR, FATAL or OFF.")] = None,
    metrics: Annotated[str, typer.Option(help="Loopback address for Prometheus: 127.0.0.1:9751.")] = "",
) -> None:
    """Run a gateway in the foreground; Ctrl-C or SIGTERM stops it in order.

    It decides by a registered ingress of a server, or by files (trust, revocation lists, names, networks).
    """
    import uvloop

    from intaglio.core.logging import configure_logging
    from intaglio.mtls.automation.agent.options import loopback
    from intaglio.mtls.automation.agent.reporting import metrics_served
    from intaglio.mtls.proxy.config import read_config
    from intaglio.mtls.proxy.metrics import exposition
    from intaglio.mtls.proxy.running import run_gateway

    found = read_config(config)
    configure_logging(cli.settings_with(log_level=log_level))

    def ready(proxy: ReverseProxy) -> None:
        addresses = [f"{host}:{port}" for host, port in proxy.addresses]
        cli.out.note(f"The gateway accepts on {', '.join(addresses)}; behind it is {found.upstream.url}.")

    with (
        metrics_served(loopback(metrics) if metrics else None, exposition) as scraped,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        if scraped:
            cli.out.note(f"Metrics are at http://{scraped[0]}:{scraped[1]}/metrics.")
        runner.run(run_gateway(found, ready))


@command(app, "check", example="intaglio mtls gateway check --config gateway.yaml", local=True)
def check(cli: Cli, config: Config) -> None:
    """Read a configuration and what it names, and say what the gateway would do. Opens no port."""
    from intaglio.mtls.proxy.config import read_config
    from intaglio.mtls.proxy.running import make_source

    found = read_config(config)
    settings = asyncio.run(make_source(found).settings())
    told = {
        "listen": list(found.listen),
        "upstream": found.upstream.url,
        "mode": settings.mode.value,
        "refuse_in_handshake": settings.refuse_in_handshake,
        "trusted": len(settings.trusted),
    }
    cli.out.result(told)
