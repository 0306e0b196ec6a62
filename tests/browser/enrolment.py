"""Enrolment in a running product, and the page as its visitors use it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, Download, Locator, Page, Playwright, Request
from tests.support.pki import admin, ok
from tests.support.product import Product
from tests.support.programs import program, run

#: Milliseconds after which something that should be on the page counts as not coming.
PATIENCE = 30_000
CREATE, READY = "Create my certificate", "Your certificate is ready"
#: The browser finds no host but this machine, so nothing can be loaded from elsewhere unnoticed.
OFFLINE = "--host-resolver-rules=MAP *.insecure.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"
_AXE = Path(__file__).resolve().parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
#: Runs before anything else on every page: what the page's policy forbade is remembered.
_WATCH_POLICY = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


@dataclass
class Enrolment:
    """A trust domain in a running product."""

    product: Product
    domain: str
    organization: str

    @classmethod
    def create(cls, product: Product, organization: str) -> Enrolment:
        """Make an organization with a trust domain that is the default of the page."""
        domain = f"{organization}.example"
        with admin(product) as http:
            ok(http.post("/organizations", json={"name": organization}))
        made = cls(product, domain, organization)
        body = {"name": domain, "environment": organization, "organization": organization, "new_ca": {}}
        mail = ["example.com", "browsers.example"]
        made.ask("POST", "/mtls/v1/domains", title="Devices of Example", email_domains=mail, **body)
        made.set("enrolment", default_domain=domain, requests_per_minute=100_000)
        return made

    def ask(self, method: str, path: str, **body: Any) -> Any:
        """The management API as the operator of the host."""
        with admin(self.product) as http:
            http.base_url = "http://localhost"
            answer = ok(http.request(method, path, json=body or None))
        return answer.json() if answer.content else None

    def set(self, group: str, **values: Any) -> None:
        """Change live settings."""
        assignments = [f"{group}.{name}={json.dumps(value)}" for name, value in values.items()]
        self.product.run("settings", "set", *assignments)

    def code(self, email: str, **values: Any) -> str:
        """A security code for a person, who is registered by it."""
        return str(self.ask("POST", "/enrol/v1/codes", domain=self.domain, email=email, **values)["code"])

    @property
    def page_url(self) -> str:
        return self.product.url("console", "/enroll/")

    @property
    def mtls_host(self) -> str:
        return self.product.url("enroll")

    def audit(self, action: str) -> list[dict[str, Any]]:
        """What is recorded about one kind of action."""
        with admin(self.product) as http:
            answer = ok(http.get("/audit", params={"filter": f'action="{action}"', "limit": 100}))
        return list(answer.json()["items"])


@dataclass
class Visit:
    """One visitor's page, and everything that it sent and said."""

    page: Page
    sent: list[Request] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, page: Page) -> Visit:
        visit = cls(page)
        page.set_default_timeout(PATIENCE)
        page.add_init_script(_WATCH_POLICY)
        page.context.on("request", lambda request: visit.sent.append(request))
        page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        page.on("console", lambda said: visit.complaints.append(said.text) if "policy" in said.text.lower() else None)
        return visit

    def open(self, url: str) -> Visit:
        """Load the page and wait until it knows the server's policy."""
        self.page.goto(url)
        self.page.get_by_role("heading", name="Trust the certificate authority").wait_for()
        return self

    @property
    def form(self) -> Locator:
        """The form of the first step."""
        return self.page.get_by_role("form", name="Certificate registration")

    def fill(self, code: str, email: str) -> None:
        self.form.get_by_label("Security code").fill(code)
        self.form.get_by_label("E-mail address").fill(email)

    def enrol(self, code: str, email: str) -> Download:
        """Fill the form, send it, and wait for the file that downloads by itself."""
        self.fill(code, email)
        with self.page.expect_download() as download:
            self.page.get_by_role("button", name=CREATE).click()
        self.page.get_by_role("heading", name=READY).wait_for()
        return download.value

    @property
    def password(self) -> str:
        """The password that the page shows."""
        return self.page.locator(".secret code").inner_text()

    def alert(self) -> str:
        """What the page complains about."""
        box = self.page.get_by_role("alert")
        box.wait_for()
        return box.inner_text()

    def steps(self) -> list[tuple[str, str]]:
        """Title and state of the steps that are shown."""
        items = self.page.get_by_role("list", name="Progress").get_by_role("listitem").all()
        titles = [item.locator("span:not(.number)").first.inner_text().split("(")[0].strip() for item in items]
        return list(zip(titles, [str(item.get_attribute("data-state")) for item in items], strict=True))

    @property
    def violations(self) -> list[str]:
        """Directives of the page's policy that something went against."""
        found: list[str] = self.page.evaluate("window.violations")
        return found

    def axe(self) -> list[str]:
        """What axe-core finds wrong, best practices included."""
        self.page.evaluate(_AXE.read_text())
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{rule['id']}: {node['html'][:200]} {node['failureSummary']}"
            for rule in found["violations"]
            for node in rule["nodes"]
        ]


@dataclass(frozen=True)
class Opened:
    """A PKCS#12 file as OpenSSL opens it."""

    key: str = field(repr=False)
    certificate: str
    chain: list[str]

    @classmethod
    def by_openssl(cls, file: Path, password: str) -> Opened:
        """Works for both forms of the file."""
        secret = file.with_suffix(".password")
        secret.write_text(password)
        common = ("pkcs12", "-in", file, "-passin", f"file:{secret}", "-legacy")
        key = run("openssl", *common, "-nocerts", "-nodes")
        leaf = run("openssl", *common, "-nokeys", "-clcerts")
        chain = run("openssl", *common, "-nokeys", "-cacerts")
        return cls(_block(key, "PRIVATE KEY"), _block(leaf, "CERTIFICATE"), _blocks(chain))


def _blocks(text: str) -> list[str]:
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    return [begin + part.split(end)[0] + end + "\n" for part in text.split(begin)[1:]]


def _block(text: str, label: str) -> str:
    begin, end = f"-----BEGIN {label}-----", f"-----END {label}-----"
    return begin + text.split(begin)[1].split(end)[0] + end + "\n"


def everything_sent(requests: list[Request]) -> bytes:
    """Addresses, headers and bodies of all requests."""
    parts: list[bytes] = []
    for request in requests:
        parts += [request.method.encode(), request.url.encode(), json.dumps(request.headers).encode()]
        parts.append(request.post_data_buffer or b"")
    return b"\n".join(parts)


def spellings(secret: bytes) -> list[bytes]:
    """How octets may be written in a request."""
    encoded = base64.b64encode(secret)
    return [secret, encoded, encoded.replace(b"+", b"-").replace(b"/", b"_").rstrip(b"="), secret.hex().encode()]


def hosts(requests: list[Request]) -> set[str]:
    """Host and port of everything that was asked for over the network."""
    addresses = [urlsplit(each.url) for each in requests]
    return {address.netloc for address in addresses if address.scheme in ("http", "https", "ws", "wss")}


class Home:
    """The home folder of somebody who runs Chromium: its certificate store, and a profile that picks certificates."""

    def __init__(self, folder: Path, trusted: Path) -> None:
        self.folder = folder
        self.store = folder / ".pki" / "nssdb"
        self.store.mkdir(parents=True)
        run("certutil", "-N", "-d", f"sql:{self.store}", "--empty-password")
        run("certutil", "-A", "-d", f"sql:{self.store}", "-n", "server-ca", "-t", "C,,", "-a", "-i", trusted)

    @property
    def environment(self) -> dict[str, str | float | bool]:
        return {**os.environ, "HOME": str(self.folder)}

    def install(self, file: Path, password: str) -> None:
        """What the page tells people on Linux to do."""
        secret = file.with_suffix(".password")
        secret.write_text(password)
        run("pk12util", "-d", f"sql:{self.store}", "-K", "", "-i", file, "-w", secret)

    @contextmanager
    def browser(self, playwright: Playwright, presents_to: str) -> Iterator[BrowserContext]:
        """Chromium, presenting what is installed to one origin without asking, as administrators can set it."""
        profile = self.folder / f"profile-{len(list(self.folder.glob('profile-*')))}"
        preferences = profile / "Default" / "Preferences"
        preferences.parent.mkdir(parents=True)
        rule = {f"{presents_to},*": {"last_modified": "13300000000000000", "setting": {"filters": [{}]}}}
        exceptions = {"auto_select_certificate": rule}
        preferences.write_text(json.dumps({"profile": {"content_settings": {"exceptions": exceptions}}}))
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=program("chromium"), args=chromium_arguments(), env=self.environment
        )
        try:
            yield context
        finally:
            context.close()


def chromium_arguments() -> list[str]:
    """As root, Chromium runs only without its sandbox."""
    return [OFFLINE, *(["--no-sandbox"] if os.geteuid() == 0 else [])]


def keytool(file: Path, password: str) -> str:
    """Java's opinion on a PKCS#12 file."""
    environment: Mapping[str, str] = {"STORE_PASSWORD": password}
    listing = ("-list", "-v", "-storetype", "PKCS12", "-keystore", str(file), "-storepass:env", "STORE_PASSWORD")
    return run("keytool", *listing, environment=environment)


def curl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run curl; its answer and status."""
    command = [program("curl"), "--silent", "--show-error", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
