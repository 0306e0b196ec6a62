"""Python that switches verification off, found in the syntax tree: comments and strings do not count."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

#: Functions and classes whose ``verify=False`` or ``ssl=False`` is about TLS, by the last part of their name.
_CONNECTING = frozenset(
    {
        "get", "post", "put", "patch", "delete", "head", "options", "request", "stream", "send", "Client",
        "AsyncClient", "Session", "ClientSession", "TCPConnector", "client", "resource", "HTTPTransport",
        "AsyncHTTPTransport", "ws_connect", "Configuration",
    }
)  # fmt: skip
_FALSE_KEYWORDS = frozenset(
    {"check_hostname", "verify_ssl", "verify_certs", "ssl_verify", "verify_hostname", "validate_certs",
     "ssl_check_hostname", "tls_verify"}
)  # fmt: skip
_TRUE_KEYWORDS = frozenset({"tlsAllowInvalidCertificates", "tlsInsecure", "tls_insecure", "insecure_skip_verify"})
_UNVERIFIED = frozenset({"_create_unverified_context", "_https_verify_certificates"})
_NAMES = frozenset({"CERT_NONE"})
_MOST_NODES = 500_000


def findings(source: str) -> Iterator[tuple[int, int, str]]:
    """(line, column, what) of every place in ``source``; nothing when it is not Python 3."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for count, node in enumerate(ast.walk(tree)):
        if count > _MOST_NODES:
            return
        what = _judged(node)
        if what is not None and isinstance(node, ast.expr | ast.stmt):
            yield node.lineno, node.col_offset + 1, what


def _judged(node: ast.AST) -> str | None:
    if isinstance(node, ast.Call):
        return _call(node)
    if isinstance(node, ast.Assign):
        return next(filter(None, (_assignment(target, node.value) for target in node.targets)), None)
    if isinstance(node, ast.Attribute) and node.attr == "VERIFY_NONE" and isinstance(node.value, ast.Name):
        return f"{node.value.id}.VERIFY_NONE"
    return None


def _call(node: ast.Call) -> str | None:
    name = _last_name(node.func)
    if name in _UNVERIFIED:
        return f"{name}()"
    for keyword in node.keywords:
        if keyword.arg is None:
            continue
        if keyword.arg in ("verify", "ssl") and _is(keyword.value, False) and name in _CONNECTING:
            return f"{name}({keyword.arg}=False)"
        if keyword.arg in _FALSE_KEYWORDS and _is(keyword.value, False):
            return f"{name}({keyword.arg}=False)"
        if keyword.arg == "assert_hostname" and _is(keyword.value, False):
            return f"{name}(assert_hostname=False)"
        if keyword.arg in _TRUE_KEYWORDS and _is(keyword.value, True):
            return f"{name}({keyword.arg}=True)"
        if keyword.arg in ("cert_reqs", "ssl_cert_reqs") and _disables(keyword.value):
            return f"{name}({keyword.arg}=CERT_NONE)"
    return None


def _assignment(target: ast.expr, value: ast.expr) -> str | None:
    if not isinstance(target, ast.Attribute):
        return "_create_default_https_context" if _last_name(value) in _UNVERIFIED else None
    if target.attr in ("check_hostname", "verify") and _is(value, False):
        return f"{target.attr} = False"
    if target.attr == "verify_mode" and _disables(value):
        return "verify_mode = CERT_NONE"
    if _last_name(value) in _UNVERIFIED:
        return f"{target.attr} = {_last_name(value)}"
    return None


def _disables(value: ast.expr) -> bool:
    text = value.value if isinstance(value, ast.Constant) else _last_name(value)
    return text in _NAMES or text in ("none", "NONE")


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is(node: ast.expr, wanted: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is wanted
