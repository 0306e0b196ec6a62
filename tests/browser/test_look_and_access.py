"""The page for everybody: screen readers, keyboards, phones, dark rooms, strict browsers."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page
from tests.browser.conftest import NewCode, NewVisit
from tests.browser.enrolment import CREATE, READY, Enrolment, Visit, hosts

_PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
SCREENS = {
    "light": {"viewport": {"width": 1280, "height": 800}},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "phone": _PHONE,
    "dark-phone": {**_PHONE, "color_scheme": "dark"},
}


@pytest.mark.parametrize("screen", SCREENS)
def test_axe_finds_nothing_wrong_in_any_state(
    new_visit: NewVisit, enrolment: Enrolment, new_code: NewCode, tmp_path: Path, screen: str
) -> None:
    visit = new_visit(**SCREENS[screen]).open(enrolment.page_url)
    for number, act in enumerate([_nothing, _send_nothing, _send_wrong, _enrol, _other_tab, _test]):
        act(visit, new_code)
        visit.page.screenshot(path=tmp_path / f"{number}.png", full_page=True)
        assert visit.axe() == []
        assert visit.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"
    assert visit.complaints == []


def _nothing(visit: Visit, _: NewCode) -> None:
    visit.page.get_by_role("button", name=CREATE).wait_for()


def _send_nothing(visit: Visit, _: NewCode) -> None:
    visit.page.get_by_role("button", name=CREATE).click()


def _send_wrong(visit: Visit, _: NewCode) -> None:
    visit.fill("WRONG-CODE", "mia@browsers.example")
    visit.page.get_by_role("button", name=CREATE).click()
    visit.alert()


def _enrol(visit: Visit, new_code: NewCode) -> None:
    visit.enrol(*new_code())


def _other_tab(visit: Visit, _: NewCode) -> None:
    visit.page.get_by_role("tab", name="Windows").first.click()


def _test(visit: Visit, _: NewCode) -> None:
    visit.page.get_by_role("button", name="Test my certificate").click()
    visit.alert()


def test_the_colours_follow_the_system(new_visit: NewVisit, enrolment: Enrolment) -> None:
    grounds = [
        new_visit(color_scheme=scheme)
        .open(enrolment.page_url)
        .page.evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert grounds[0] != grounds[1]


def test_the_whole_way_can_be_gone_by_keyboard(visit: Visit, new_code: NewCode) -> None:
    code, email = new_code()
    keyboard = visit.page.keyboard
    visit.page.locator("body").press("Tab")
    assert _focused(visit.page) == "Skip to the form"
    keyboard.press("Enter")
    keyboard.press("Tab")
    keyboard.type(code)
    keyboard.press("Tab")
    keyboard.type(email)
    with visit.page.expect_download():
        keyboard.press("Enter")
    visit.page.get_by_role("heading", name=READY).wait_for()
    visit.page.wait_for_function("document.activeElement.classList.contains('result')")
    reached = []
    for _ in range(6):
        keyboard.press("Tab")
        reached.append(_focused(visit.page))
    assert reached[:3] == ["Download it here", "Copy password", "Download the compatible form"]
    assert reached[3] == "Linux"
    visit.page.get_by_role("tab", name="Linux").first.focus()
    keyboard.press("ArrowRight")
    assert _focused(visit.page) == "macOS"
    assert visit.page.get_by_role("tabpanel", name="macOS").first.is_visible()
    keyboard.press("End")
    assert _focused(visit.page) == "Managed devices"


def _focused(page: Page) -> str:
    text: str = page.evaluate("document.activeElement.innerText")
    return text.strip()


def test_progress_and_errors_are_announced(visit: Visit, new_code: NewCode) -> None:
    visit.fill("WRONG-CODE", "mia@browsers.example")
    visit.page.get_by_role("button", name=CREATE).click()
    visit.alert()
    assert visit.page.evaluate("document.activeElement.getAttribute('role')") == "alert"
    described = visit.form.get_by_label("Security code").get_attribute("aria-describedby")
    assert described
    assert "administrator" in visit.page.locator(f"[id='{described}']").inner_text()


def test_the_policy_is_kept_and_nothing_comes_from_elsewhere(
    visit: Visit, enrolment: Enrolment, new_code: NewCode
) -> None:
    visit.enrol(*new_code())
    visit.page.get_by_role("button", name="Test my certificate").click()
    visit.alert()
    assert visit.violations == []
    own = {urlsplit(enrolment.page_url).netloc, urlsplit(enrolment.mtls_host).netloc}
    assert hosts(visit.sent) == own


@pytest.mark.parametrize(
    ("attack", "directive"),
    [
        ("new Image().src = 'https://evil.example/x.png'", "img"),
        ("fetch('https://evil.example/').catch(() => undefined)", "connect"),
        ("fetch('http://localhost:9/').catch(() => undefined)", "connect"),
        ("document.body.innerHTML = '<b>x</b>'", "require-trusted-types-for"),
        ("document.createElement('script').text = 'window.stolen = 1'", "require-trusted-types-for"),
        ("const f = document.createElement('iframe'); f.src = 'https://x.example'; document.body.append(f)", "frame"),
        ("const s = document.createElement('style'); s.textContent = 'a{}'; document.body.append(s)", "style"),
    ],
    ids=["image", "fetch", "other-port", "html", "script", "frame", "style"],
)
def test_what_an_intruder_would_try_is_forbidden(visit: Visit, attack: str, directive: str) -> None:
    visit.page.evaluate(f"() => {{ try {{ {attack} }} catch {{}} }}")
    visit.page.wait_for_function("window.violations.length > 0")
    assert visit.violations[0].startswith(directive)


def test_every_script_and_style_sheet_is_held_to_its_digest(visit: Visit) -> None:
    loaded = visit.page.evaluate(
        "[...document.querySelectorAll('script, link[rel=stylesheet], style')]"
        ".map((element) => [element.localName, element.integrity ?? '', element.src ?? element.href ?? ''])"
    )
    assert len(loaded) >= 2
    assert all(name != "style" and integrity.startswith("sha384-") for name, integrity, _ in loaded)
