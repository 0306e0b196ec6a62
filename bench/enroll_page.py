"""``enroll-page``: how soon somebody can begin to type on the enrolment page."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from tests.browser.enrolment import Enrolment, Home, chromium_arguments
from tests.support.programs import program

from bench.figure import Figure
from bench.installation import Installation

LIMIT_SECONDS = 1.0
VISITS = 7
_ROOT = Path(__file__).resolve().parents[1]
#: Milliseconds from the beginning of the navigation until the first field takes letters and the policy is shown.
_INTERACTIVE = """
new Promise((tell) => {
  const look = () => {
    const field = document.querySelector("input.code");
    const shown = document.querySelector(".facts")?.textContent.includes("day");
    if (field && !field.disabled && shown) tell(performance.now());
    else requestAnimationFrame(look);
  };
  look();
})
"""


def measure() -> Figure:
    """Load the page in Chromium over loopback, each time with an empty cache; the median counts."""
    subprocess.run([_ROOT / "scripts" / "ensure-web"], check=True)
    figure = Figure("enroll-page")
    with tempfile.TemporaryDirectory(prefix="intaglio-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        product = Installation(folder, WORKERS="2")
        product.run("init")
        try:
            product.start()
            enrolment = Enrolment.create(product, "bench")
            (folder / "server-ca.pem").write_text(product.run("tls", "ca-certificate"))
            seconds, octets = _visits(enrolment, Home(folder / "home", folder / "server-ca.pem"))
        finally:
            product.stop()
    figure.add("first step interactive", statistics.median(seconds), "s", "<", LIMIT_SECONDS, "empty cache, Chromium")
    figure.measured = {"seconds": seconds, "octets": octets}
    return figure


def _visits(enrolment: Enrolment, home: Home) -> tuple[list[float], int]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=program("chromium"), args=chromium_arguments(), env=home.environment
        )
        try:
            _visit(browser, enrolment.page_url)  # the first one also starts the browser
            visits = [_visit(browser, enrolment.page_url) for _ in range(VISITS)]
        finally:
            browser.close()
    return [seconds for seconds, _ in visits], visits[0][1]


def _visit(browser: Browser, url: str) -> tuple[float, int]:
    context = browser.new_context()
    page = context.new_page()
    page.goto(url, wait_until="commit")
    milliseconds: float = page.evaluate(_INTERACTIVE)
    octets: int = page.evaluate("performance.getEntries().reduce((sum, each) => sum + (each.transferSize ?? 0), 0)")
    context.close()
    return milliseconds / 1000, octets
