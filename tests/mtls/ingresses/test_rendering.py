"""Configuration of ingresses: what stands in it, and that nothing else can get into it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from tests.mtls.ingresses.plans import TOKEN, make_plan

from intaglio.mtls.ingresses.kinds import KINDS
from intaglio.mtls.ingresses.plan import Layout
from intaglio.mtls.ingresses.rendering import render

_ALL = [(kind.name, source) for kind in KINDS.values() for source in kind.sources]
_CHECKED = {
    "nginx": "nginx.conf", "haproxy": "haproxy.cfg", "apache": "apache.conf", "envoy": "envoy.yaml",
    "istio": "istio.yaml", "linkerd": "linkerd.yaml", "ingress-nginx": "ingress.yaml", "aws-alb": "listener.json",
}  # fmt: skip


@pytest.mark.parametrize(("type", "source"), _ALL)
@pytest.mark.parametrize("mode", ["enforce", "permissive"])
@pytest.mark.parametrize("fail_mode", ["closed", "open"])
@pytest.mark.parametrize("bare", [True, False])
def test_every_product_is_rendered_whole(type: str, source: str, mode: str, fail_mode: str, bare: bool) -> None:
    changes: dict[str, Any] = {"ip_rule": None, "hosts": (), "forward": (), "listener": ""} if bare else {}
    upstream = "http://127.0.0.1:9000" if bare else "https://payments.internal:8443"
    changes |= {"revocation_source": source, "mode": mode, "fail_mode": fail_mode}
    made = render(make_plan(type, Layout(upstream=upstream, token=TOKEN), **changes))
    names = [file.name for file in made.files]
    assert len(names) == len(set(names))
    assert {"README.md", "trust.pem", *KINDS[type].files} <= set(names)
    for file in made.files:
        assert file.text.endswith("\n")
        assert "{{" not in file.text
        assert "{%" not in file.text
        assert "None" not in file.text or file.name == "apply"
        if file.name.endswith(".yaml"):
            assert all(document for document in yaml.safe_load_all(file.text))
        if file.name.endswith(".json"):
            assert json.loads(file.text)
