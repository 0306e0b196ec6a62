"""What an agent says: log lines, metrics, and words to the service manager."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from intaglio.core import clock
from intaglio.core.clock import rfc3339
from intaglio.core.errors import Unavailable

_HELP: Mapping[str, tuple[str, str]] = {
    "certificate_not_after_seconds": ("gauge", "End of the certificate in use, in Unix time."),
    "certificate_left_seconds": ("gauge", "Seconds that the certificate in use is still good for."),
    "certificate_health": ("gauge", "0 good, 1 overdue, 2 critical, 3 expired, 4 none."),
    "next_attempt_seconds": ("gauge", "When the server is asked next, in Unix time."),
    "renewals_total": ("counter", "Certificates got since the start."),
    "failures_total": ("counter", "Attempts that failed since the start."),
    "failures_in_a_row": ("gauge", "Attempts that failed since the last good one."),
    "reload_failures_total": ("counter", "Reload commands that failed since the start."),
    "reload_pending": ("gauge", "1 while the program has not been told of the certificate in use."),
    "clock_skew_seconds": ("gauge", "Clock of this machine minus that of the server."),
}
_PREFIX = "intaglio_agent_"


def log(level: str, event: str, **facts: Any) -> None:
    """One JSON object on standard error."""
    print(json.dumps({"timestamp": rfc3339(clock.now()), "level": level, "event": event, **facts}), file=sys.stderr)  # noqa: T201 - the log of a program that does without the server's


def metrics_text(values: Mapping[str, float], identity: str) -> str:
    """Values as Prometheus reads them. Source: Prometheus exposition format 0.0.4."""
    label = identity.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "")
    lines = []
    for name, value in values.items():
        kind, text = _HELP[name]
        lines += [f"# HELP {_PREFIX}{name} {text}", f"# TYPE {_PREFIX}{name} {kind}"]
        lines.append(f'{_PREFIX}{name}{{identity="{label}"}} {value:.15g}')
    return "\n".join(lines) + "\n"


def write_metrics(path: Path, text: str) -> None:
    """A file for the textfile collector, replaced in one step. What cannot be written is only said."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_text(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        log("warning", "the metrics file cannot be written", path=str(path), reason=str(error.strerror))


@contextlib.contextmanager
def metrics_served(address: tuple[str, int] | None, read: Callable[[], str]) -> Any:
    """Answer ``GET /metrics`` on a loopback address while inside. Raises Unavailable when it is taken."""
    if address is None:
        yield None
        return

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            found = self.path.partition("?")[0] == "/metrics"
            body = read().encode() if found else b"Metrics are at /metrics.\n"
            self.send_response(200 if found else 404)
            self.send_header("content-type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    try:
        server = _Server(address, Handler)
    except OSError as error:
        raise Unavailable(f"{address[0]}:{address[1]} cannot be listened on: {error.strerror}.") from None
    threading.Thread(target=server.serve_forever, daemon=True, name="metrics").start()
    try:
        yield server.server_address[:2]
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)


def notify(**words: str) -> None:
    """Tell the service manager, if there is one. Source: sd_notify(3)."""
    where = os.environ.get("NOTIFY_SOCKET", "")
    if not where.startswith(("/", "@")):
        return
    message = "\n".join(f"{name.upper()}={value}" for name, value in words.items())
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.connect("\0" + where[1:] if where.startswith("@") else where)
        sender.send(message.encode())


def shown(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
