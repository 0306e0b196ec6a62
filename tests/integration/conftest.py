"""Running products: one that is shared by tests that leave it as it was, and new ones for tests that do not."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.pki import Pki
from tests.support.product import Product

NewProduct = Callable[..., Product]


@pytest.fixture(scope="session")
def pki(product: Product) -> Pki:
    """A PKI in the shared product. Tests use it and do not change its CAs."""
    return Pki.create(product, "shared")


@pytest.fixture
def new_product() -> Iterator[NewProduct]:
    """A function that makes a data folder of its own; what was started on it is ended after the test, however it is."""
    made: list[Product] = []
    with tempfile.TemporaryDirectory(prefix="intaglio-own-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)  # as root the embedded PostgreSQL runs as an account that must pass through

        def make(**settings: str) -> Product:
            own = folder / str(len(made))
            own.mkdir(mode=0o711)
            made.append(Product(own, **settings))
            return made[-1]

        yield make
        for product in made:
            product.stop()
