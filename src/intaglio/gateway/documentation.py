"""Pages for people: the reference with the error catalogue, and the operations with ready commands. No scripts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from html import escape
from typing import Final

from intaglio.gateway.errors import CATALOGUE
from intaglio.gateway.openapi import OPERATIONS, Operation
from intaglio.gateway.roles import MATRIX, GatewayPermission, Role

SECURITY_HEADERS: Final = (
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)

_HOST: Final = re.compile(r"[A-Za-z0-9.:\[\]-]{1,260}")
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}"
    "table{border-collapse:collapse;width:100%}td,th{border:1px solid #bbb;padding:.3rem .6rem;text-align:left}"
    "code,pre{font:14px/1.4 ui-monospace,monospace;background:#f3f3f3}pre{padding:.6rem;overflow:auto}"
    "summary{cursor:pointer;padding:.2rem 0}"
)
_EXAMPLES: Final = {
    "caId": "demo~issuing",
    "profileId": "privatessl-tls-server",
    "enrollmentId": "01890a5d-ac96-774b-bcce-b302099a8057",
    "serialNumber": "4F2A",
    "dn": "CN%3Dwww.example%2CO%3DExample",
    "name": "example.com",
}
_BODIES: Final = {
    "EnrollmentRequest": '{"profileId":"privatessl-tls-server","requiredFormat":{"format":"PEM"},"csr":"MIIB..."}',
    "ActionRequest": '{"action":{"type":"RevokeAction","reason":"superseded"}}',
}


@cache
def reference_page() -> str:
    """Endpoints, roles and error codes."""
    endpoints = _table(
        ("Method", "Path", "Purpose"),
        ((o.method, f"<code>{escape(o.path)}</code>", escape(o.summary)) for o in OPERATIONS),
    )
    roles = _table(
        ("Permission", *(role.value for role in Role)),
        (
            (escape(permission.value), *("yes" if permission in MATRIX[role] else "no" for role in Role))
            for permission in GatewayPermission
        ),
    )
    errors = _table(
        ("Code", "HTTP", "Meaning"),
        ((f"<code>{e.code}</code>", str(e.status), escape(e.meaning)) for e in CATALOGUE.values()),
    )
    return _page(
        "CA gateway reference",
        "<p>JSON over mutual TLS. The machine-readable contract is <a href='/cagw/openapi.json'>openapi.json</a>; "
        "<a href='/cagw/swagger-ui'>operations with commands</a> to copy.</p>"
        f"<h2>Resources</h2>{endpoints}<h2>Roles</h2>{roles}<h2>Error codes</h2>{errors}",
    )


def explorer_page(host: str) -> str:
    """Every operation with a curl command for PEM and PKCS#12 credentials (curl asks for the password).

    ``host`` is the Host header.
    """
    server = host if _HOST.fullmatch(host) else "localhost:8444"
    sections = "".join(
        f"<details><summary><b>{o.method}</b> <code>{escape(o.path)}</code> {escape(o.summary)}</summary>"
        f"<pre>{escape(_command(o, server, '--cert client.pem --key client.key'))}</pre>"
        f"<pre>{escape(_command(o, server, '--cert-type P12 --cert client.p12'))}</pre></details>"
        for o in OPERATIONS
    )
    return _page("CA gateway operations", f"<p><a href='/cagw/openapi.json'>openapi.json</a></p>{sections}")


def _command(operation: Operation, host: str, credential: str) -> str:
    path = operation.path
    for name, example in _EXAMPLES.items():
        path = path.replace(f"{{{name}}}", example)
    body = "" if operation.request is None else (
        f" \\\n  -H 'Content-Type: application/json' --data '{_BODIES[operation.request]}'"
    )
    return f"curl --cacert ca.pem {credential} -X {operation.method} \\\n  'https://{host}{path}'{body}"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = "".join(f"<th>{cell}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"


def _page(title: str, content: str) -> str:
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title}</title>"
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>{content}</body></html>"
    )
