"""What visitors are told when something does not work."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Route
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.browser.conftest import NewCode, NewVisit
from tests.browser.enrolment import CREATE, READY, Enrolment, Visit
from tests.support.product import eventually

from intaglio.console.static import enrolment_page


def _try(visit: Visit, code: str, email: str) -> str:
    visit.fill(code, email)
    visit.page.get_by_role("button", name=CREATE).click()
    return visit.alert()


def test_an_empty_form_is_not_sent(visit: Visit) -> None:
    before = len(visit.sent)
    visit.page.get_by_role("button", name=CREATE).click()
    assert visit.page.get_by_text("Enter the security code that your administrator gave you").is_visible()
    visit.form.get_by_label("Security code").fill("SOME-CODE")
    visit.form.get_by_label("E-mail address").fill("no address")
    visit.page.get_by_role("button", name=CREATE).click()
    field = visit.form.get_by_label("E-mail address")
    assert field.get_attribute("aria-invalid") == "true"
    assert visit.page.evaluate("document.activeElement.type") == "email"
    assert len(visit.sent) == before


def test_a_wrong_code_is_explained_and_can_be_corrected(visit: Visit, new_code: NewCode) -> None:
    code, email = new_code()
    assert "This code is not known" in _try(visit, "WRONG-CODE-WRONG-CODE", email)
    assert visit.form.get_by_label("E-mail address").input_value() == email
    visit.enrol(code, email)


def test_a_foreign_address_is_explained(visit: Visit, new_code: NewCode) -> None:
    code, _ = new_code()
    assert "does not belong to the code" in _try(visit, code, "eve@elsewhere.example")


def test_a_used_code_is_explained(visit: Visit, new_code: NewCode) -> None:
    code, email = new_code()
    visit.enrol(code, email)
    visit.page.get_by_role("button", name="Start over with another code").click()
    assert "This code has been used" in _try(visit, code, email)


def test_while_the_ca_is_away_the_same_request_is_tried_again(visit: Visit, new_code: NewCode) -> None:
    requests: list[str] = []

    def away(route: Route) -> None:
        requests.append(route.request.post_data or "")
        if len(requests) > 2:
            route.continue_()
            return
        problem = {"code": "ca_unavailable", "detail": "The CA is away.", "remedy": "Wait."}
        route.fulfill(status=503, json=problem, headers={"Retry-After": "5"})

    visit.page.route("**/csr", away)
    told = _try(visit, *new_code())
    assert "The certificate authority cannot be reached" in told
    assert "Your code is not used up" in told
    assert "5 seconds" in told
    assert ("Sign", "failed") in visit.steps()
    visit.page.get_by_role("button", name="Try again").click()
    visit.page.get_by_text(re.compile("cannot be reached")).wait_for()
    eventually(lambda: len(requests) == 2, what="the request is sent again")
    visit.page.get_by_role("button", name="Try again").click()
    visit.page.get_by_role("heading", name=READY).wait_for()
    assert len(set(requests)) == 1
    assert len([each for each in visit.sent if each.url.endswith("/sessions")]) == 1


def test_a_server_that_does_not_answer_is_explained(new_visit: NewVisit, enrolment: Enrolment) -> None:
    visit = new_visit()
    visit.page.route("**/enrol/v1/policy*", lambda route: route.abort())
    visit.page.goto(enrolment.page_url)
    assert "The server does not answer" in visit.alert()
    visit.page.unroute("**/enrol/v1/policy*")
    visit.page.get_by_role("button", name="Try again").click()
    visit.page.get_by_role("button", name=CREATE).wait_for()


@pytest.mark.parametrize(("hours", "told"), [(-30, "30 hours behind"), (24 * 8, "ahead")], ids=["behind", "ahead"])
def test_a_wrong_clock_of_the_device_is_noticed(
    new_visit: NewVisit, enrolment: Enrolment, new_code: NewCode, hours: int, told: str
) -> None:
    visit = new_visit()
    visit.page.add_init_script(f"const now = Date.now; Date.now = () => now() + {hours} * 3600000")
    visit.open(enrolment.page_url)
    visit.enrol(*new_code())
    said = visit.alert()
    assert "The clock of this device is wrong" in said
    assert told.split()[-1] in said


def test_a_certificate_for_another_key_is_thrown_away(
    new_visit: NewVisit, enrolment: Enrolment, new_code: NewCode
) -> None:
    visit = new_visit()
    visit.page.add_init_script(
        "const ask = window.fetch;"
        "window.fetch = async (url, options) => {"
        "  const answer = await ask(url, options);"
        "  if (!url.endsWith('/csr')) return answer;"
        "  const issued = await answer.json();"
        "  return Response.json({...issued, certificate: issued.chain[0]});"
        "};"
    )
    visit.open(enrolment.page_url)
    assert "not a certificate for the key of this page" in _try(visit, *new_code())
    assert visit.page.locator(".secret").count() == 0


@pytest.fixture
def insecure_origin() -> Iterator[str]:
    """The page over plain HTTP, under a name that is not this machine's."""
    app = Starlette(routes=[Mount("/enroll", enrolment_page(lambda _: ""))])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    eventually(lambda: server.started or not thread.is_alive(), what="the server starts")
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://page.insecure.test:{port}/enroll/"
    server.should_exit = True
    thread.join()


def test_an_insecure_origin_is_refused_with_a_reason(new_visit: NewVisit, insecure_origin: str) -> None:
    visit = new_visit()
    visit.page.goto(insecure_origin)
    assert "This page needs a secure connection" in visit.alert()
    assert visit.page.get_by_role("button", name=CREATE).count() == 0
    assert visit.page.get_by_label("Security code").count() == 0


def test_a_browser_without_scripts_is_told_why_nothing_happens(
    new_visit: NewVisit, enrolment: Enrolment, tmp_path: Path
) -> None:
    visit = new_visit(java_script_enabled=False)
    visit.page.goto(enrolment.page_url)
    assert "needs JavaScript" in visit.page.inner_text("body")
