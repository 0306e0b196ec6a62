"""Answers about status signed in a token (SoftHSM 2), and what becomes of them when the token goes away."""

from __future__ import annotations

import json
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.product import Product, eventually
from tests.support.tokens import PIN, SoftHsm

_AUTHORITY = "in-a-token"


class House:
    """A running product with a token, a CA, and a status authority for it."""

    def __init__(self, folder: Path) -> None:
        self.hsm = SoftHsm(folder)
        self.hsm.make("answers")
        self.product = product = Product(folder, PKCS11_ENVIRONMENT=f"SOFTHSM2_CONF={self.hsm.configuration}")
        product.run("init")
        product.start()
        (product.work / "pin").write_text(f"{PIN}\n")
        token = ("--module", "softhsm2", "--label", "answers", "--pin-file", "pin")
        product.run("hsm", "token", "add", "main", *token)
        product.run("org", "create", "demo")
        common = ("--profile", "privatessl-tls-server", "--administrator", "alice", "--save-passwords")
        product.run("ca", "create", "root", "demo~root", "--subject", "CN=Root", *common)
        product.run("ca", "create", "issuing", "demo~issuing", "--issuer", "root", "--subject", "CN=Issuing", *common)
        (product.work / "issuing.pem").write_text(product.run("ca", "chain", "demo~issuing"))
        product.run(
            "cert", "issue", "--ca", "demo~issuing", "--profile", "privatessl-tls-server", "--subject", "CN=a.example",
            "--dns", "a.example", "--key-out", "a.key", "--out", "a.pem",
        )  # fmt: skip
        product.run("ocsp", "authority", "create", _AUTHORITY, "--ca", "demo~issuing", "--profile", "nextUpdate")

    def ask(self) -> Any:
        """What our own client makes of an answer to a fresh nonce; it verifies the signature."""
        issuer = self.product.work / "first.pem"
        chain = (self.product.work / "issuing.pem").read_text()
        issuer.write_text(chain.partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")
        url = self.product.url("public", f"/eva/{_AUTHORITY}")
        outcome = self.product.attempt(
            "--json", "ocsp", "query", "--issuer", issuer, "--cert", "a.pem", "--url", url
        )
        return json.loads(outcome.stdout)

    def health(self) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(self.product.url("public", "/eva/health"), timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with tempfile.TemporaryDirectory(prefix="intaglio-tokens-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        made = House(folder)
        yield made
        made.product.stop()


@pytest.mark.parametrize("key", ["RSA-2048", "RSA-3072", "RSA-4096", "P-256", "P-384", "P-521"])
def test_answers_are_signed_by_a_key_of_every_type_in_a_token(house: House, key: str) -> None:
    made = house.product.json(
        "ocsp", "signer", "create", _AUTHORITY, "--ca", "demo~issuing", "--key", key, "--provider", "pkcs11:main"
    )
    eventually(lambda: house.ask()["signer"] == made["subject"], what="the new signer signs")
    told = house.ask()
    assert (told["verified"], told["status"]) == (True, "good")
    assert f"ocsp:{_AUTHORITY}" in house.hsm.pkcs11_tool("answers", "--list-objects", "--type", "privkey")
    house.product.run("ocsp", "signer", "delete", made["id"], "--yes")


def test_a_token_that_goes_away_is_told_and_comes_back_without_a_restart(house: House) -> None:
    made = house.product.json(
        "ocsp", "signer", "create", _AUTHORITY, "--ca", "demo~issuing", "--provider", "pkcs11:main"
    )
    eventually(lambda: house.ask()["signer"] == made["subject"], what="the new signer signs")
    assert house.health()[0] == 200
    processes = house.product.runtime.processes
    house.hsm.take_away()
    try:
        eventually(lambda: house.health()[0] == 503, what="the health tells that the key is away")
        assert _AUTHORITY in house.health()[1]["checks"]["keys"]["authorities"]
        assert house.ask()["response_status"] == "tryLater"
    finally:
        house.hsm.put_back()
    eventually(lambda: house.ask()["response_status"] == "successful", what="answers are signed again")
    eventually(lambda: house.health()[0] == 200, what="the health is good again")
    assert house.product.runtime.processes == processes
