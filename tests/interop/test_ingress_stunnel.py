"""stunnel with the configuration that was rendered for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.ingress import Domain, Ingress, domain_of, refused_soon, rendered, running
from tests.support.product import Product, eventually


@pytest.fixture
def domain(product: Product) -> Domain:
    return domain_of(product)


@contextlib.contextmanager
def stunnel(domain: Domain, folder: Path, **settings: str) -> Iterator[Ingress]:
    with rendered(domain, "stunnel", folder, **settings) as ingress:
        ingress.commands = {"RELOAD_COMMAND": ":"}
        yield ingress


def test_a_client_is_let_in_until_the_crl_names_it(domain: Domain, tmp_path: Path) -> None:
    good, bad = (domain.issue("caller", tmp_path, name) for name in ("good", "bad"))
    with stunnel(domain, tmp_path / "stunnel") as ingress:
        command = ["stunnel4", ingress.folder / "stunnel.conf"]
        with running(ingress, command):
            assert ingress.passes(good)
            assert ingress.passes(bad)
            assert not ingress.passes(None)
            assert "Acceptable client certificate CA names" in ingress.ca_names()
        domain.revoke(bad)
        # The rendered reload is a restart, so that open connections end, too.
        with_list = ingress.folder / "crls.pem"
        before = with_list.read_text()

        def fetched() -> bool:
            ingress.refresh()
            return with_list.read_text() != before

        eventually(fetched, what="the CRL with the revocation is fetched")
        with running(ingress, command):
            assert ingress.passes(good)
            assert not ingress.passes(bad)
        assert ingress.latency()["in_time"] is True


def test_a_client_is_let_in_until_ocsp_says_revoked(domain: Domain, tmp_path: Path) -> None:
    good, bad = (domain.issue("caller", tmp_path, name) for name in ("good", "bad"))
    with (
        stunnel(domain, tmp_path / "stunnel", revocation="ocsp") as ingress,
        running(ingress, ["stunnel4", ingress.folder / "stunnel.conf"]),
    ):
        assert ingress.passes(good)
        assert ingress.passes(bad)
        domain.revoke(bad)
        refused_soon(ingress, bad, lambda: None)
        assert ingress.passes(good)
