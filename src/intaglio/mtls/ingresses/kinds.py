"""The products configurations are made for, as a table: files, what each can do, and how fast it forgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Kind:
    """A product.

    ``files`` maps rendered files to templates, ``live_only`` those with the token of the ingress. ``sources`` are the
    revocation sources it can use. ``test`` and ``reload`` are its commands, ``apply_seconds`` how long a reload takes
    until new connections see it, ``drain_seconds`` how long an open connection may go on afterwards at most (None:
    no bound). ``partial`` is whether it trusts a CA that is no root. ``forwards`` are the headers it can set
    by itself; with live decisions all of them come from there. ``opens`` is whether it can let everybody through while
    decisions are not to be had (fail mode open).
    """

    name: str
    title: str
    files: Mapping[str, str]
    sources: tuple[str, ...]
    test: str = ""
    reload: str = ""
    apply_seconds: float = 2.0
    drain_seconds: float | None = 0.0
    drain_reason: str = ""
    partial: bool = False
    forwards: frozenset[str] = frozenset()
    timer: bool = True
    ip_rule: bool = True
    opens: bool = True
    live_only: Mapping[str, str] = field(default_factory=dict)


_TABLE: Final = (
    Kind(
        "nginx", "nginx", {"nginx.conf": "nginx/nginx.conf", "main.conf": "nginx/main.conf"}, ("live", "crl", "ocsp"),
        test="nginx -t -q", reload="systemctl reload nginx", drain_seconds=10.0,
        drain_reason="worker_shutdown_timeout", forwards=frozenset({"xfcc"}),
        live_only={"token.conf": "nginx/token.conf"},
    ),
    Kind(
        "haproxy", "HAProxy", {"haproxy.cfg": "haproxy/haproxy.cfg"}, ("live", "crl"),
        test="haproxy -c -q -f /etc/haproxy/haproxy.cfg -f {folder}/haproxy.cfg", reload="systemctl reload haproxy",
        drain_seconds=10.0, drain_reason="hard-stop-after", forwards=frozenset({"client-cert", "xfcc"}),
        live_only={"decide.lua": "haproxy/decide.lua", "token.lua": "haproxy/token.lua"},
    ),
    Kind(
        "apache", "Apache httpd", {"apache.conf": "apache/apache.conf"}, ("crl", "ocsp"),
        test="apache2ctl configtest", reload="systemctl reload apache2", drain_seconds=15.0,
        drain_reason="RequestReadTimeout and Timeout end what a graceful reload leaves open",
        forwards=frozenset({"client-cert", "xfcc"}),
    ),
    Kind(
        "caddy", "Caddy", {"Caddyfile": "caddy/Caddyfile"}, ("live",),
        test="caddy validate --adapter caddyfile --config {folder}/Caddyfile", reload="systemctl reload caddy",
        timer=False, partial=True, opens=False,
        live_only={"token.caddy": "caddy/token.caddy"},
    ),
    Kind(
        "envoy", "Envoy", {"envoy.yaml": "envoy/envoy.yaml", "trust.yaml": "envoy/trust.yaml"}, ("live", "crl"),
        test="envoy --mode validate --config-path {folder}/envoy.yaml", reload=":", apply_seconds=1.0,
        drain_seconds=15.0, drain_reason="max_connection_duration", forwards=frozenset({"xfcc"}),
    ),
    Kind(
        "traefik", "Traefik", {"traefik.yaml": "traefik/traefik.yaml"}, ("live",), reload=":", apply_seconds=2.0,
        timer=False, opens=False, partial=True,
    ),
    Kind(
        "stunnel", "stunnel", {"stunnel.conf": "stunnel/stunnel.conf"}, ("crl", "ocsp"),
        reload="systemctl restart stunnel@{name}", apply_seconds=3.0, drain_seconds=0.0,
        drain_reason="a restart ends open connections", ip_rule=False,
    ),
    Kind(
        "istio", "Istio", {"istio.yaml": "istio/istio.yaml"}, ("live", "crl"),
        reload="{folder}/apply", apply_seconds=10.0, drain_seconds=30.0,
        drain_reason="maxConnectionDuration", forwards=frozenset({"xfcc"}),
    ),
    Kind(
        "linkerd", "Linkerd", {"linkerd.yaml": "linkerd/linkerd.yaml"}, ("crl",), timer=False, drain_seconds=None,
        drain_reason="Linkerd looks at no CRL and no OCSP answer: a revoked certificate works until it expires",
        partial=True,
    ),
    Kind(
        "ingress-nginx", "ingress-nginx", {"ingress.yaml": "ingress_nginx/ingress.yaml"}, ("crl",),
        reload="{folder}/apply", apply_seconds=10.0, drain_seconds=None,
        drain_reason="worker-shutdown-timeout of the controller is 240 s; set it to 10s in its ConfigMap",
    ),
    Kind(
        "aws-alb", "AWS Application Load Balancer",
        {"trust-store.json": "aws_alb/trust-store.json", "listener.json": "aws_alb/listener.json"}, ("crl",),
        reload="{folder}/apply", apply_seconds=60.0, drain_seconds=None,
        drain_reason="AWS says neither when new revocations count nor ends connections that are open",
    ),
)  # fmt: skip

KINDS: Final[Mapping[str, Kind]] = {kind.name: kind for kind in _TABLE}

#: What decides by itself and needs no files: the built-in gateway, and whatever else asks for every request.
OWN_GATEWAY: Final = Kind("gateway", "The gateway", {}, ("live", "crl", "ocsp"), timer=False, partial=True)
