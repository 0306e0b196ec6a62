"""An organization with CAs in the running product, made by the command line."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from tests.support.product import Product


@pytest.fixture(scope="module")
def org(product: Product) -> str:
    """A new organization of this module's own."""
    name = f"org-{secrets.token_hex(3)}"
    product.run("org", "create", name)
    return name


@pytest.fixture(scope="module")
def issuing(product: Product, org: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The issuing CA of a hierarchy of this module's own."""
    folder = tmp_path_factory.mktemp("credentials")
    common = ("--administrator", "alice", "--credentials-dir", folder, "--save-passwords")
    profiles = ("--profile", "privatessl-tls-server", "--profile", "multiuse-p12-client")
    product.run("ca", "create", "root", f"{org}~root", "--subject", f"CN=Root,O={org}", *profiles, *common)
    below = ("--issuer", "root", "--subject", f"CN=Issuing,O={org}")
    product.run("ca", "create", "issuing", f"{org}~issuing", *below, *profiles, *common)
    return f"{org}~issuing"


@pytest.fixture
def csr(tmp_path: Path) -> Path:
    """A request for www.example made by openssl."""
    from tests.support.programs import run

    path = tmp_path / "server.csr"
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", tmp_path / "server.key")
    name = ("-subj", "/CN=www.example", "-addext", "subjectAltName=DNS:www.example")
    run("openssl", "req", "-new", *key, *name, "-out", path)
    return path
