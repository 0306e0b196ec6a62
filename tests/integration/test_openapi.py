"""schemathesis lets the running product prove that it keeps to its own OpenAPI documents."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.pki import Pki, admin, ok
from tests.support.product import NewProduct

_COMMAND = Path(sys.executable).with_name("schemathesis")
_CHECKS = "not_a_server_error,response_schema_conformance,content_type_conformance"
_SECONDS = 100

# 501 is how the gateway says that a CA has not the capability.
_CONFIGURATION = """
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "501"]
"""


def test_both_apis_answer_as_their_documents_say(new_product: NewProduct) -> None:
    product = new_product()
    product.run("init")
    pki = Pki.create(product.start(), "demo")
    (product.work / "schemathesis.toml").write_text(_CONFIGURATION)
    with admin(product) as http:
        token = ok(http.post("/tokens", json={"name": "schemathesis", "user": "admin"})).json()["secret"]
    client = ("--request-cert", pki.clients["alice"])
    _conforms(pki, product.url("gateway", "/cagw/openapi.json"), "coverage", *client)
    login = ("--header", f"Authorization: Bearer {token}")
    # The one would end the test's own login, the other plays whole scenarios, which have tests of their own.
    left_out = ("/api/v1/logout", "/mtls/v1/scenarios/{number}/runs")
    options = (*login, *(part for path in left_out for part in ("--exclude-path", path)))
    _conforms(pki, product.url("console", "/api/v1/openapi.json"), "fuzzing", *options)


def _conforms(pki: Pki, document: str, phases: str, *options: str | Path) -> None:
    done = subprocess.run(
        [
            _COMMAND, "run", document, "--tls-verify", pki.anchor_file, "--checks", _CHECKS,
            "--phases", phases, "--max-examples", "6", "--seed", "1", "--no-shrink", "--no-color",
            "--warnings", "off", "--suppress-health-check", "all", "--request-timeout", "30", *options,
        ],
        cwd=pki.product.work, capture_output=True, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
