"""Preparing a data folder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.folders import fast_folder
from tests.support.product import Product


@pytest.fixture
def fresh() -> Iterator[Product]:
    """A data folder that does not exist yet."""
    with tempfile.TemporaryDirectory(prefix="intaglio-init-", dir=fast_folder(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield Product(folder)


def test_init_makes_everything_once_and_says_so_afterwards(fresh: Product) -> None:
    first = fresh.json("init", "--admin", "boss")
    assert (first["folder"], first["master_key"], first["name"]) == ("created", "created", "boss")
    assert len(first["secret"]) == 40
    key = fresh.data / "master.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert fresh.data.stat().st_mode & 0o066 == 0
    before = key.read_bytes()
    again = fresh.json("init")
    assert (again["folder"], again["master_key"], again["database"]) == ("exists", "exists", "up to date")
    assert "secret" not in again
    assert key.read_bytes() == before


def test_init_does_not_replace_a_lost_master_key(fresh: Product) -> None:
    fresh.run("init")
    (fresh.data / "master.key").unlink()
    refused = fresh.attempt("init")
    assert refused.status == 1
    assert "Restore the master key" in refused.output
    assert not (fresh.data / "master.key").exists()


def test_the_hostname_is_kept_for_the_server(fresh: Product) -> None:
    del fresh.settings["HOSTNAME"]
    fresh.run("init", "--hostname", "pki.example")
    shown = fresh.json("settings", "boot")
    assert next(each["value"] for each in shown if each["name"] == "hostname") == "pki.example"


def test_the_database_is_checked_and_its_address_shown_without_a_server(fresh: Product) -> None:
    fresh.run("init")
    assert fresh.json("db", "check")["ok"]
    assert fresh.json("db", "url")["url"].startswith("postgresql://")
    assert fresh.json("db", "migrate")["applied"] == []


def test_the_master_key_rotates_and_old_keys_retire_after_rewrapping(fresh: Product) -> None:
    fresh.run("init")
    rotated = fresh.json("key", "rotate-master", "--yes")
    assert rotated["keys"] == 2
    done = fresh.json("key", "rewrap", "--retire")
    assert done["done"] > 0
    assert len(done["retired"]) == 1
    assert len(json.loads((fresh.data / "master.key").read_bytes())["keys"]) == 1
    fresh.start()
    try:
        assert fresh.json("status")["ready"]
    finally:
        fresh.stop()


def test_rewrapping_waits_for_a_restart_after_rotation(product: Product) -> None:
    before = (product.data / "master.key").read_bytes()
    try:
        product.run("key", "rotate-master", "--yes")
        refused = product.attempt("key", "rewrap")
    finally:
        (product.data / "master.key").write_bytes(before)
    assert refused.status == 1
    assert "worker-0 on " in refused.output
    assert "restart the servers" in refused.output


def test_without_a_server_commands_say_how_to_start_one(fresh: Product) -> None:
    refused = fresh.attempt("ca", "list")
    assert refused.status == 1
    assert "intaglio serve" in refused.output


@pytest.mark.parametrize("text", ["127.0.0.1:8080", "not-a-port"])
def test_a_listener_that_is_given_as_an_address_is_told_its_parts(fresh: Product, text: str) -> None:
    fresh.settings["PUBLIC"] = text
    refused = fresh.attempt("status")
    assert refused.status != 0
    assert "INTAGLIO_PUBLIC__PORT" in refused.output
    assert "Traceback" not in refused.output
    assert text not in refused.output
