"""Client credentials for gateways that come from an EST server: our own here, asked over the network like any other."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.folders import fast_folder
from tests.support.pki import Pki
from tests.support.product import Product

_PROFILE = "est-digital-signature"


@dataclass(frozen=True)
class Desk:
    """An EST endpoint of a product that may call itself."""

    product: Product
    url: str
    code: Path
    trust: Path


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    with tempfile.TemporaryDirectory(prefix="intaglio-est-", dir=fast_folder(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        product = Product(folder)
        product.run("init")
        try:
            product.start()
            yield _open(product)
        finally:
            product.stop()


def _open(product: Product) -> Desk:
    pki = Pki.create(product, "demo", profiles=(_PROFILE,))
    product.run("settings", "set", 'outgoing.networks=["127.0.0.0/8","::1/128"]')
    product.run(
        "enroll", "endpoint", "create", "--protocol", "est", "--name", "clients", "--ca", pki.issuing,
        "--profile", _PROFILE,
    )  # fmt: skip
    code, trust = product.work / "code", product.work / "trust.pem"
    product.run("enroll", "credential", "create", "est/clients", "--name", "4711", "--out", code)
    product.run("tls", "ca-certificate", "--out", trust)
    return Desk(product, product.url("enroll", "/.well-known/est/clients"), code, trust)


def _enroll(desk: Desk, *, url: str | None = None, code: Path | None = None, trust: bool = True) -> list[str | Path]:
    server = ["--server-ca", desk.trust] if trust else []
    return [
        *("ocsp", "credential", "enroll", url or desk.url, "--subject", "CN=validation,O=Demo"),
        *("--reference", "4711", "--code-file", code or desk.code, *server),
    ]


def test_a_credential_is_had_with_a_code_and_renewed_with_itself(desk: Desk) -> None:
    made = desk.product.json(*_enroll(desk, url=f"{desk.url}/simpleenroll"))
    assert (made["DN"], made["origin"]) == ("CN=validation,O=Demo", "est")
    assert made["renew_at"] is not None
    renewed = desk.product.json("ocsp", "credential", "renew", made["id"])
    assert renewed["DN"] == made["DN"]
    assert renewed["SN"] != made["SN"]
    rows = {row["id"]: row for row in desk.product.json("ocsp", "credential", "list")}
    assert rows[renewed["id"]]["latest"]
    assert not rows[made["id"]]["latest"]
    listed = desk.product.json("cert", "list", "--filter", "subject=CN=validation,O=Demo")
    assert {row["channel"] for row in listed} == {"est"}


def test_a_wrong_code_and_a_wrong_label_leave_nothing_behind(desk: Desk) -> None:
    before = desk.product.json("ocsp", "credential", "list"), len(desk.product.json("key", "list"))
    wrong = desk.product.work / "wrong"
    wrong.write_text("wrong\n")
    refused = desk.product.attempt(*_enroll(desk, code=wrong))
    assert refused.status == 1
    assert "The EST server refused with 401" in refused.output
    refused = desk.product.attempt(*_enroll(desk, url=f"{desk.url}-nobody"))
    assert "The EST server refused with 404" in refused.output
    assert before == (desk.product.json("ocsp", "credential", "list"), len(desk.product.json("key", "list")))


def test_a_server_that_is_not_trusted_gets_no_code(desk: Desk) -> None:
    refused = desk.product.attempt(*_enroll(desk, trust=False))
    assert refused.status == 1
    assert "was not reached" in refused.output
    assert "certificate verify failed" in refused.output


@pytest.mark.parametrize("url", ["http://localhost/.well-known/est/x", "https://user@localhost/x", "https://"])
def test_other_addresses_are_refused(desk: Desk, url: str) -> None:
    assert "is no address of an EST server" in desk.product.attempt(*_enroll(desk, url=url)).output
