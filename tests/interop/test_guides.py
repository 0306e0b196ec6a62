"""The guides work as they are written: every ``sh`` block of a page is run, in order, against a running server."""

from __future__ import annotations

import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.commands import put_on_path
from tests.support.folders import fast_folder
from tests.support.product import PATIENCE, Product

_GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"
_FIRST = "first-steps"
#: Pages that go on from the first steps, in any order.
_OTHERS = sorted(page.stem for page in _GUIDES.glob("*.md") if page.stem not in (_FIRST, "README"))
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: The guides name the default ports; the test's server has whatever was free.
_DEFAULT_PORTS = {"public": 8080, "console": 8443, "enroll": 1443, "gateway": 8444, "access": 8181, "health": 9444}
#: Ports that guides choose for programs of their own; the test gives them free ones.
_OWN_PORTS = (9443, 9080)
#: What only an installed service understands is done to the test's server instead.
_SERVICE = re.compile(r"^(?:intaglio serve|systemctl (?:start|stop|restart) intaglio)$", re.MULTILINE)


def _script(page: str) -> str:
    blocks = _BLOCK.findall((_GUIDES / f"{page}.md").read_text())
    assert blocks, f"{page} has no commands"
    return "".join(blocks)


def _follow(product: Product, page: str) -> str:
    """Do what a page says; what its reader sees."""
    script = _script(page)
    commands, services = _SERVICE.split(script), _SERVICE.findall(script)
    seen = _type(product, commands[0])
    for service, following in zip(services, commands[1:], strict=True):
        if "stop" in service or "restart" in service:
            product.stop()
        if "stop" not in service:
            product.start()
        seen += _type(product, following)
    return seen


def _type(product: Product, script: str) -> str:
    """Output of what a reader types into one terminal."""
    for listener, port in _DEFAULT_PORTS.items():
        if f"localhost:{port}" in script:
            script = script.replace(f"localhost:{port}", f"localhost:{product.runtime.port(listener)}")
    for port in _OWN_PORTS:
        script = re.sub(rf"\b{port}\b", str(_free_port()), script)
    environment = product.environment
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=product.work,
        env={**environment, "HOME": str(product.folder), "PATH": f"{product.folder}/bin:{environment['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def newcomer() -> Iterator[tuple[Product, str]]:
    """A server on which somebody has followed the first steps, and what he saw."""
    with tempfile.TemporaryDirectory(prefix="intaglio-guide-", dir=fast_folder(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        product = Product(folder)
        product.data = folder / "pki"
        (folder / "bin").mkdir()
        put_on_path(folder / "bin")
        try:
            yield product, _follow(product, _FIRST)
        finally:
            product.stop()


def test_the_first_steps_lead_to_a_certificate_that_is_good(newcomer: tuple[Product, str]) -> None:
    _, seen = newcomer
    assert "One-time secret" in seen
    assert "Created demo~issuing (ca-issuing, active)." in seen
    assert "www.pem: OK" in seen
    assert "www.pem: good" in seen
    assert "intact" in seen


@pytest.mark.parametrize("page", _OTHERS)
def test_the_commands_of_a_guide_work(newcomer: tuple[Product, str], page: str) -> None:
    product, _ = newcomer
    _follow(product, page)


def test_every_guide_is_listed() -> None:
    listed = set(re.findall(r"\]\(([a-z0-9-]+)\.md\)", (_GUIDES / "README.md").read_text()))
    assert listed == {_FIRST, *_OTHERS}
