"""Chromium, driven by playwright, against a running product."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright
from tests.browser.enrolment import Enrolment, Home, Visit, chromium_arguments
from tests.support.product import Product
from tests.support.programs import program

NewVisit = Callable[..., Visit]
NewCode = Callable[..., tuple[str, str]]


@pytest.fixture(scope="session")
def enrolment(product: Product) -> Enrolment:
    """A trust domain that people enrol in. Tests leave its settings as they were."""
    return Enrolment.create(product, "browsers")


@pytest.fixture(scope="session")
def server_ca(product: Product, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the certificates of the listeners chain to."""
    file = tmp_path_factory.mktemp("server-ca") / "server-ca.pem"
    file.write_text(product.run("tls", "ca-certificate"))
    return file


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """The driver. Its event loop is in the way of asynchronous tests, so it is gone before the next module."""
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="module")
def browser(playwright: Playwright, server_ca: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium of somebody who trusts the server and has no certificate."""
    home = Home(tmp_path_factory.mktemp("home"), server_ca)
    launched = playwright.chromium.launch(
        executable_path=program("chromium"), args=chromium_arguments(), env=home.environment
    )
    yield launched
    launched.close()


@pytest.fixture
def new_visit(browser: Browser) -> Iterator[NewVisit]:
    """A function that opens a window of its own; ``options`` are those of a playwright context."""
    opened = []

    def open_window(**options: Any) -> Visit:
        context = browser.new_context(**options)
        opened.append(context)
        return Visit.of(context.new_page())

    yield open_window
    for context in opened:
        context.close()


@pytest.fixture
def visit(new_visit: NewVisit, enrolment: Enrolment) -> Visit:
    """The enrolment page, opened."""
    return new_visit().open(enrolment.page_url)


_numbers = itertools.count(1)


@pytest.fixture
def new_code(enrolment: Enrolment) -> NewCode:
    """A function that makes a code for somebody new; returns the code and his address."""

    def make(**values: Any) -> tuple[str, str]:
        email = f"mia.{next(_numbers)}@browsers.example"
        return enrolment.code(email, **values), email

    return make


@pytest.fixture
def home(tmp_path: Path, server_ca: Path) -> Home:
    """A home folder whose browser trusts the server."""
    return Home(tmp_path / "home", server_ca)
