"""`intaglio mtls logs`: access logs of ingresses made by others."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Annotated, Any, cast

import typer

from intaglio.cli.client import segment
from intaglio.cli.commands import Cli, command, noun
from intaglio.core.errors import InvalidInput

app = noun("Access logs of nginx, HAProxy, Apache, Envoy and AWS load balancers.")


@app.callback()
def root() -> None:
    """With one command alone the noun would be the command."""


_CHUNK, _LINES = 350_000, 5_000
#: A longer line is not sent whole; the server counts it as one it cannot read.
_LONGEST = 16_400
#: What a packed log may become: logs shrink to a tenth or a fiftieth, zeros to a thousandth.
_UNSUSPECTED, _MOST_TIMES = 256 << 20, 100


@command(
    app,
    "import",
    example=(
        "intaglio mtls logs import edge /etc/intaglio/ingresses/edge/access.log --format nginx",
        "intaglio mtls logs import balancer conn_log.2026-11-21.log.gz --format alb",
    ),
)
def import_(
    cli: Cli,
    ingress: Annotated[str, typer.Argument(help="NAME or ORGANIZATION~NAME.")],
    file: Annotated[str, typer.Argument(help="Log, also .gz; - is standard input.")],
    format: Annotated[str, typer.Option(help="nginx, apache, haproxy, envoy or alb.")],
) -> None:
    """Turn a log into access events. Imported again, or after it has grown, only what is new counts."""
    total = {"lines": 0, "events": 0, "skipped": 0, "bad": 0}
    shown: list[dict[str, Any]] = []
    path = f"/mtls/v1/ingresses/{segment(ingress)}/log"
    with _opened(file) as log, _progress(cli, log.size) as advance:
        source = log.source()
        if source is None:
            cli.out.result({**total, "bad_lines": []}, "The log has no whole line yet.")
            return
        offset = cli.client.get(path, source=source)["offset"]
        advance(offset)
        for chunk in log.chunks(offset):
            number = total["lines"]
            found = cli.client.post(path, {"format": format, "source": source, **vars(chunk)})
            for name in total:
                total[name] += found[name]
            shown += [{"line": number + bad["line"], "why": bad["why"]} for bad in found["shown"]]
            advance(chunk.octets)
    for bad in shown[:20]:
        cli.out.warning(f"line {bad['line']} of what is new: {bad['why']}")
    text = f"Imported {total['events']} events from {total['lines']} lines"
    text += f"; {total['skipped']} said nothing new about access, {total['bad']} could not be read."
    cli.out.result({**total, "bad_lines": shown[:20]}, text)


@dataclass(frozen=True)
class _Chunk:
    offset: int
    octets: int
    before: str
    after: str
    text: str


class _Log:
    """A log that can be read from any place."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)

    def source(self) -> str | None:
        """SHA-256 of the first line; None when there is no whole one."""
        self._file.seek(0)
        line = self._file.readline(1 << 20)
        return hashlib.sha256(line).hexdigest() if line.endswith(b"\n") or len(line) == 1 << 20 else None

    def chunks(self, offset: int) -> Iterator[_Chunk]:
        """Whole lines from ``offset`` on, in chunks that fit into one request."""
        before = self._digest_before(offset)
        self._file.seek(offset)
        while lines := self._next():
            octets = sum(length for length, _, _ in lines)
            after = lines[-1][2]
            yield _Chunk(offset, octets, before, after, "".join(text for _, text, _ in lines))
            offset, before = offset + octets, after

    def _next(self) -> list[tuple[int, str, str]]:
        """Lines with their length in the file and SHA-256; one that is not finished yet stays for the next time."""
        found: list[tuple[int, str, str]] = []
        size = 0
        while len(found) < _LINES and size < _CHUNK:
            start = self._file.tell()
            length, head, digest, whole = self._line()
            if not whole:
                self._file.seek(start)
                break
            text = head.decode("utf-8", "replace")
            found.append((length, text if text.endswith("\n") else f"{text}\n", digest))
            size += len(text)
        return found

    def _line(self) -> tuple[int, bytes, str, bool]:
        """Length, beginning and SHA-256 of the next line, and whether it has its end."""
        digest, head, length = hashlib.sha256(), b"", 0
        while part := self._file.readline(1 << 16):
            digest.update(part)
            length += len(part)
            head += part[: _LONGEST - len(head)] if len(head) < _LONGEST else b""
            if part.endswith(b"\n"):
                return length, head, digest.hexdigest(), True
        return length, head, digest.hexdigest(), False

    def _digest_before(self, offset: int) -> str:
        """SHA-256 of the line that ends at ``offset``; empty at the beginning, and where no line ends there."""
        if offset == 0 or offset > self.size:
            return ""
        start, window = offset, 1 << 12
        while start > 0:
            start = max(0, offset - window)
            self._file.seek(start)
            data = self._file.read(offset - start)
            at = data[:-1].rfind(b"\n")
            if at >= 0 or start == 0:
                return hashlib.sha256(data[at + 1 :]).hexdigest()
            window *= 4
        return ""


@contextlib.contextmanager
def _opened(path: str) -> Iterator[_Log]:
    with contextlib.ExitStack() as stack:
        try:
            if path == "-":
                opened: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(sys.stdin.buffer, opened)
            elif path.endswith(".gz"):
                opened = stack.enter_context(tempfile.TemporaryFile())
                with gzip.open(path) as packed:
                    _unpack(cast("IO[bytes]", packed), opened, max(_UNSUSPECTED, _MOST_TIMES * os.path.getsize(path)))
            else:
                opened = stack.enter_context(open(path, "rb"))
        except (OSError, EOFError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise InvalidInput(f"{path} cannot be read: {why}.", code="file-unreadable") from None
        yield _Log(opened)


def _unpack(packed: IO[bytes], into: IO[bytes], most: int) -> None:
    while part := packed.read(1 << 20):
        most -= len(part)
        if most < 0:
            raise InvalidInput(
                f"The log becomes more than {_MOST_TIMES} times as long when it is unpacked, as no log does.",
                code="log-too-large",
                remedy="Unpack it yourself if you trust it, and import that.",
            )
        into.write(part)


@contextlib.contextmanager
def _progress(cli: Cli, size: int) -> Iterator[Any]:
    """A bar for octets, on a terminal only; yields what advances it."""
    if cli.out.as_json or not sys.stderr.isatty():
        yield lambda octets: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    with Progress(BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("import", total=size)
        yield lambda octets: bar.advance(task, octets)
