"""Timestamps signed in a token (SoftHSM 2), and what becomes of them when the token goes away."""

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

from intaglio.timestamping.reading import read_reply
from intaglio.timestamping.verification import make_query, verify_token
from intaglio.x509.certificates import read_certificate


class House:
    """A running product with a token and a CA."""

    def __init__(self, folder: Path) -> None:
        self.hsm = SoftHsm(folder)
        self.hsm.make("stamps")
        self.product = product = Product(folder, PKCS11_ENVIRONMENT=f"SOFTHSM2_CONF={self.hsm.configuration}")
        product.run("init")
        product.start()
        (product.work / "pin").write_text(f"{PIN}\n")
        token = ("--module", "softhsm2", "--label", "stamps", "--pin-file", "pin")
        product.run("hsm", "token", "add", "main", *token)
        product.run("settings", "set", "timestamping.clock_source=none")
        product.run("org", "create", "demo")
        common = ("--profile", "privatessl-tls-server", "--administrator", "alice")
        product.run("ca", "create", "root", "demo~root", "--subject", "CN=Root", *common)
        product.run("ca", "certificate", "demo~root", "--out", "root.pem")

    def create(self, name: str, key: str) -> None:
        """An issuer whose key is in the token."""
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

    def health(self) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(self.product.url("public", "/tsa/health"), timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with tempfile.TemporaryDirectory(prefix="intaglio-stamps-hsm-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        made = House(folder)
        try:
            yield made
        finally:
            made.product.stop()


@pytest.mark.parametrize("key", ["P-256", "RSA-2048"])
def test_timestamps_are_signed_in_a_token(house: House, key: str) -> None:
    house.create(key.lower(), key)
    eventually(lambda: house.verified(key.lower()), what="a timestamp is given")
    assert "timestamp:" in house.product.run("key", "list")


def test_a_token_that_goes_away_is_told_and_comes_back_without_a_restart(house: House) -> None:
    house.create("away", "P-256")
    eventually(lambda: house.verified("away"), what="a timestamp is given")
    assert house.health()[0] == 200
    processes = house.product.runtime.processes
    house.hsm.take_away()
    try:
        eventually(lambda: house.health()[0] == 503, what="the health tells that the key is away")
        assert house.health()[1]["issuers"]["away"]["status"] == "DOWN"
        assert not house.verified("away")
    finally:
        house.hsm.put_back()
    eventually(lambda: house.verified("away"), what="timestamps are given again")
    eventually(lambda: house.health()[0] == 200, what="the health is good again")
    assert house.product.runtime.processes == processes
