"""The page with the URLs of the enrolment protocols: read, copied from, on every screen."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.browser.conftest import NewVisit
from tests.browser.test_look_and_access import SCREENS
from tests.support.pki import Pki
from tests.support.product import Product

_PROFILES = ("privatessl-tls-server", "est-digital-signature", "cmp-digital-signature")


@pytest.fixture(scope="module")
def page_url(product: Product) -> str:
    """The page of a tenant with three endpoints."""
    pki = Pki.create(product, "offices", profiles=_PROFILES)
    product.run("enroll", "tenant", "create", "offices")
    for protocol, profile in zip(("acme", "est", "cmp"), _PROFILES, strict=True):
        product.run(
            "enroll", "endpoint", "create", "--protocol", protocol, "--ca", pki.issuing, "--profile", profile,
            "--tenant", "offices", "--name", f"offices-{protocol}",
        )  # fmt: skip
    return product.url("enroll", "/urls/offices")


@pytest.mark.parametrize("screen", SCREENS)
def test_the_page_is_for_everybody(new_visit: NewVisit, page_url: str, tmp_path: Path, screen: str) -> None:
    visit = new_visit(**SCREENS[screen])
    visit.page.goto(page_url)
    visit.page.get_by_role("heading", name="Certificates for offices").wait_for()
    visit.page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert visit.axe() == []
    assert visit.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"
    assert visit.complaints == []


def test_a_command_is_copied_whole(new_visit: NewVisit, page_url: str) -> None:
    visit = new_visit(permissions=["clipboard-read", "clipboard-write"])
    visit.page.goto(page_url)
    figure = visit.page.locator("figure", has_text="certbot certonly").first
    figure.get_by_role("button", name="Copy").click()
    figure.get_by_role("button", name="Copied").wait_for()
    copied = visit.page.evaluate("navigator.clipboard.readText()")
    assert copied == figure.locator("code").text_content()
    assert visit.complaints == []
