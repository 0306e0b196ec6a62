"""Firefox, driven through its own remote control (Marionette), so that no driver has to be fetched.

Source: Mozilla, "Marionette protocol": messages are ``LENGTH:[TYPE, ID, ...]`` over TCP; 0 asks, 1 answers.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.product import eventually
from tests.support.programs import program, run

_PREFERENCES = {
    "marionette.port": 0,  # Firefox chooses, and writes the number into its profile
    "security.default_personal_cert": "Select Automatically",
    "security.enterprise_roots.enabled": False,
    "browser.download.folderList": 2,
    "browser.download.always_ask_before_handling_new_types": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "toolkit.telemetry.reportingpolicy.firstRun": False,
    "app.update.disabledForTesting": True,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "browser.aboutwelcome.enabled": False,
    "devtools.jsonview.enabled": False,
}


class Firefox:
    """A running Firefox with one window."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._read()  # the greeting
        self._ask("WebDriver:NewSession", {"capabilities": {"alwaysMatch": {}}})
        self._ask("WebDriver:SetTimeouts", {"script": 30_000, "pageLoad": 30_000})

    def open(self, url: str) -> None:
        """Load a page."""
        self._ask("WebDriver:Navigate", {"url": url})

    def evaluate(self, script: str) -> Any:
        """The value that the body of an asynchronous function returns in the page."""
        wrapped = f"(async () => {{ {script} }})().then(arguments[arguments.length - 1], (e) => {{ throw e; }});"
        return self._ask("WebDriver:ExecuteAsyncScript", {"script": wrapped, "args": [], "newSandbox": True})["value"]

    def fill(self, label: str, text: str) -> None:
        """Type into the field with this label."""
        field = self._find("xpath", f"//label[normalize-space()='{label}']/following-sibling::input[1]")
        self._ask("WebDriver:ElementSendKeys", {"id": field, "text": text})

    def click(self, text: str) -> None:
        """Click the button or link with this text."""
        found = self._find("xpath", f"//*[self::button or self::a][normalize-space()='{text}']")
        self._ask("WebDriver:ElementClick", {"id": found})

    def text(self) -> str:
        """What the page shows."""
        return str(self.evaluate("return document.body.innerText"))

    def close(self) -> None:
        self._ask("Marionette:Quit", {"flags": ["eForceQuit"]})

    def _find(self, using: str, value: str) -> str:
        found = self._ask("WebDriver:FindElement", {"using": using, "value": value})["value"]
        return str(next(iter(found.values())))

    def _ask(self, command: str, parameters: dict[str, Any]) -> Any:
        message = json.dumps([0, next(self._numbers), command, parameters]).encode()
        self._connection.sendall(b"%d:%s" % (len(message), message))
        _, _, error, result = json.loads(self._read())
        assert error is None, error
        return result

    def _read(self) -> bytes:
        length = b""
        while not length.endswith(b":"):
            length += self._receive(1)
        return self._receive(int(length[:-1]))

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._connection.recv(size - len(data))
            assert part, "Firefox closed the connection"
            data += part
        return data


class FirefoxProfile:
    """A profile whose certificate store trusts the server."""

    def __init__(self, folder: Path, trusted: Path) -> None:
        self.folder = folder
        self.downloads = folder / "downloads"
        self.downloads.mkdir(parents=True)
        run("certutil", "-N", "-d", f"sql:{folder}", "--empty-password")
        run("certutil", "-A", "-d", f"sql:{folder}", "-n", "server-ca", "-t", "C,,", "-a", "-i", trusted)
        preferences = {**_PREFERENCES, "browser.download.dir": str(self.downloads)}
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in preferences.items()]
        (folder / "user.js").write_text("\n".join(lines))

    def install(self, file: Path, password: str) -> None:
        """Import a PKCS#12 file while Firefox is closed."""
        secret = file.with_suffix(".password")
        secret.write_text(password)
        run("pk12util", "-d", f"sql:{self.folder}", "-K", "", "-i", file, "-w", secret)

    @contextmanager
    def browser(self) -> Iterator[Firefox]:
        """Run Firefox until the block ends."""
        number = self.folder / "MarionetteActivePort"
        number.unlink(missing_ok=True)
        command = [program("firefox-esr"), "--headless", "--marionette", "--no-remote", "--profile", str(self.folder)]
        environment = {**os.environ, "HOME": str(self.folder), "MOZ_CRASHREPORTER_DISABLE": "1"}
        with open(self.folder / "firefox.log", "wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            eventually(lambda: number.is_file() and number.read_text(), what="Firefox gets ready")
            with socket.create_connection(("127.0.0.1", int(number.read_text())), timeout=60) as connection:
                firefox = Firefox(connection)
                yield firefox
                firefox.close()
        finally:
            process.terminate()
            process.wait(60)
