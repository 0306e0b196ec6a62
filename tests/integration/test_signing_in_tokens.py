"""Answers about status and timestamps signed in a token (SoftHSM 2), and what becomes of them when it goes away."""

from __future__ import annotations

import json
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.folders import fast_folder
from tests.support.product import Product, eventually
from tests.support.tokens import PIN, SoftHsm

from intaglio.timestamping.reading import read_reply
from intaglio.timestamping.verification import make_query, verify_token
from intaglio.x509.certificates import read_certificate

_AUTHORITY = "in-a-token"


class House:
    """A running product with a token, CAs, and a status authority for one of them."""

    def __init__(self, folder: Path) -> None:
        self.hsm = SoftHsm(folder)
        self.hsm.make("signing")
        self.product = product = Product(folder, PKCS11_ENVIRONMENT=f"SOFTHSM2_CONF={self.hsm.configuration}")
        product.run("init")
        product.start()
        (product.work / "pin").write_text(f"{PIN}\n")
        token = ("--module", "softhsm2", "--label", "signing", "--pin-file", "pin")
        product.run("hsm", "token", "add", "main", *token)
        product.run("settings", "set", "timestamping.clock_source=none")
        product.run("org", "create", "demo")
        common = ("--profile", "privatessl-tls-server", "--administrator", "alice", "--save-passwords")
        product.run("ca", "create", "root", "demo~root", "--subject", "CN=Root", *common)
        product.run("ca", "create", "issuing", "demo~issuing", "--issuer", "root", "--subject", "CN=Issuing", *common)
        product.run("ca", "certificate", "demo~root", "--out", "root.pem")
        product.run("ca", "certificate", "demo~issuing", "--out", "issuing.pem")
        product.run(
            "cert", "issue", "--ca", "demo~issuing", "--profile", "privatessl-tls-server", "--subject", "CN=a.example",
            "--dns", "a.example", "--key-out", "a.key", "--out", "a.pem",
        )  # fmt: skip
        product.run("ocsp", "authority", "create", _AUTHORITY, "--ca", "demo~issuing", "--profile", "nextUpdate")

    def ask(self) -> Any:
        """What our own client makes of an answer to a fresh nonce; it verifies the signature."""
        url = self.product.url("public", f"/eva/{_AUTHORITY}")
        outcome = self.product.attempt(
            "--json", "ocsp", "query", "--issuer", "issuing.pem", "--cert", "a.pem", "--url", url
        )
        return json.loads(outcome.stdout)

    def create_issuer(self, name: str, key: str) -> None:
        """A timestamp issuer whose key is in the token."""
        self.product.run(
            "tsa", "issuer", "create", name, "--policy", "1.2.3.4", "--ca", "demo~root", "--key", key,
            "--provider", "pkcs11:main",
        )  # fmt: skip

    def verified(self, name: str) -> bool:
        """Whether a timestamp is given; what is given has to be good."""
        query = make_query(bytes(32), "sha256")
        url = self.product.url("public", f"/tsa/{name}")
        wire = urllib.request.Request(url, query.der, {"Content-Type": "application/timestamp-query"})
        try:
            with urllib.request.urlopen(wire, timeout=60) as answer:
                reply: bytes = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return False
        if b"failure here" in reply:
            return False
        root = read_certificate((self.product.work / "root.pem").read_bytes())
        return bool(verify_token(read_reply(reply), [root], digest=bytes(32), nonce=query.nonce))

    def health(self, service: str) -> tuple[int, Any]:
        """Status and content of `/eva/health` or `/tsa/health`."""
        try:
            with urllib.request.urlopen(self.product.url("public", f"/{service}/health"), timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with tempfile.TemporaryDirectory(prefix="intaglio-tokens-", dir=fast_folder(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        made = House(folder)
        try:
            yield made
        finally:
            made.product.stop()


@pytest.mark.parametrize("key", ["RSA-2048", "RSA-3072", "RSA-4096", "P-256", "P-384", "P-521"])
def test_answers_are_signed_by_a_key_of_every_type_in_a_token(house: House, key: str) -> None:
    made = house.product.json(
        "ocsp", "signer", "create", _AUTHORITY, "--ca", "demo~issuing", "--key", key, "--provider", "pkcs11:main"
    )
    eventually(lambda: house.ask()["signer"] == made["subject"], what="the new signer signs")
    told = house.ask()
    assert (told["verified"], told["status"]) == (True, "good")
    assert f"ocsp:{_AUTHORITY}" in house.hsm.pkcs11_tool("signing", "--list-objects", "--type", "privkey")
    house.product.run("ocsp", "signer", "delete", made["id"], "--yes")


@pytest.mark.parametrize("key", ["P-256", "RSA-2048"])
def test_timestamps_are_signed_in_a_token(house: House, key: str) -> None:
    house.create_issuer(key.lower(), key)
    eventually(lambda: house.verified(key.lower()), what="a timestamp is given")
    assert "timestamp:" in house.product.run("key", "list")


def test_a_token_that_goes_away_is_told_and_comes_back_without_a_restart(house: House) -> None:
    product = house.product
    made = product.json("ocsp", "signer", "create", _AUTHORITY, "--ca", "demo~issuing", "--provider", "pkcs11:main")
    house.create_issuer("away", "P-256")
    eventually(lambda: house.ask()["signer"] == made["subject"], what="the new signer signs")
    eventually(lambda: house.verified("away"), what="a timestamp is given")
    assert house.health("eva")[0] == house.health("tsa")[0] == 200
    assert {each["check"] for each in _tokens_of(product.json("ocsp", "check", "all"))} == {"main"}
    processes = product.runtime.processes
    house.hsm.take_away()
    try:
        eventually(lambda: house.health("eva")[0] == 503, what="the health tells that the key is away")
        assert _AUTHORITY in house.health("eva")[1]["checks"]["keys"]["authorities"]
        assert house.ask()["response_status"] == "tryLater"
        eventually(lambda: house.health("tsa")[0] == 503, what="the health tells that the key is away")
        assert house.health("tsa")[1]["issuers"]["away"]["status"] == "DOWN"
        assert not house.verified("away")
        checked = product.attempt("--json", "ocsp", "check", "all")
        assert checked.status == 1
        assert [each["ok"] for each in _tokens_of(json.loads(checked.stdout))] == [False]
        assert _tokens_of(json.loads(product.attempt("--json", "ocsp", "check", "all", "--no-tokens").stdout)) == []
    finally:
        house.hsm.put_back()
    eventually(lambda: house.ask()["response_status"] == "successful", what="answers are signed again")
    eventually(lambda: house.verified("away"), what="timestamps are given again")
    eventually(lambda: house.health("eva")[0] == 200, what="the health is good again")
    eventually(lambda: house.health("tsa")[0] == 200, what="the health is good again")
    assert product.runtime.processes == processes


def _tokens_of(checked: Any) -> list[Any]:
    return [each for each in checked["findings"] if each["about"] == "token"]


def test_a_file_is_stamped_by_the_only_issuer_unless_there_are_several(house: House) -> None:
    product = house.product
    (product.work / "contract").write_text("We agree.\n")
    names = [each["name"] for each in product.json("tsa", "issuer", "list")]
    house.create_issuer("stamping", "P-256")
    for name in names:
        product.run("tsa", "issuer", "set", name, "--disable")
    told = product.json("tsa", "stamp", "contract")
    assert told["url"].endswith("/tsa/stamping")
    house.create_issuer("another", "P-256")
    refused = product.attempt("tsa", "stamp", "contract")
    assert refused.status == 1
    assert "another" in refused.output
    assert "--issuer or --url" in refused.output
    product.run("tsa", "issuer", "set", "stamping", "--no-enabled")
    product.run("tsa", "issuer", "set", "another", "--no-enabled")
    assert "no timestamp issuer" in product.attempt("tsa", "stamp", "contract").output
    product.run("tsa", "issuer", "set", "stamping", "--enabled")
    assert product.json("tsa", "stamp", "contract")["url"].endswith("/tsa/stamping")
