"""Configuration of ingresses: what stands in it, and that nothing else can get into it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.mtls.ingresses.plans import TOKEN, make_plan, make_status

from intaglio.core.errors import IntaglioError
from intaglio.mtls.ingresses.checking import check
from intaglio.mtls.ingresses.kinds import KINDS
from intaglio.mtls.ingresses.plan import Layout, Status
from intaglio.mtls.ingresses.rendering import OURS, render

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


@pytest.mark.parametrize(("type", "source"), [(type, source) for type, source in _ALL if type in _CHECKED])
def test_what_is_rendered_to_enforce_is_found_to_verify_fully(type: str, source: str) -> None:
    made = render(make_plan(type, revocation_source=source))
    found = check(made.file(_CHECKED[type]).text)
    assert found.type in (type, "istio")
    assert found.findings == ()


@pytest.mark.parametrize("type", _CHECKED)
def test_what_is_rendered_to_watch_is_found_not_to_verify(type: str) -> None:
    made = render(make_plan(type, mode="permissive"))
    rules = {finding.rule for finding in check(made.file(_CHECKED[type]).text).findings}
    assert rules & {"client-certificate-optional", "client-certificate-off", "pass-through"}
    assert any("Permissive" in warning for warning in made.warnings)


def test_an_aws_listener_verifies_and_is_what_the_api_takes() -> None:
    from botocore.session import get_session
    from botocore.validate import ParamValidator

    service = get_session().get_service_model("elbv2")
    made = render(make_plan("aws-alb"))
    listener, store = (json.loads(made.file(name).text) for name in ("listener.json", "trust-store.json"))
    for operation, value in (("ModifyListener", listener), ("CreateTrustStore", store)):
        report = ParamValidator().validate(value, service.operation_model(operation).input_shape)
        assert not report.has_errors(), report.generate_report()
    mutual = listener["MutualAuthentication"]
    assert (mutual["Mode"], mutual["IgnoreClientCertificateExpiry"]) == ("verify", False)
    assert ":truststore/" in mutual["TrustStoreArn"]


@pytest.mark.parametrize("type", ["nginx", "haproxy", "apache", "caddy", "traefik"])
def test_every_header_about_identity_is_taken_from_clients(type: str) -> None:
    source = "live" if "live" in KINDS[type].sources else "crl"
    made = render(make_plan(type, revocation_source=source))
    text = "".join(made.file(name).text for name in KINDS[type].files).lower()
    for header in OURS:
        assert header.lower() in text or type == "haproxy"


def test_the_token_is_only_in_files_that_others_cannot_read() -> None:
    for type, source in _ALL:
        for file in render(make_plan(type, revocation_source=source)).files:
            assert TOKEN not in file.text or file.mode == 0o600 or type == "traefik"


def test_modes_of_istio_and_linkerd() -> None:
    strict = render(make_plan("istio")).file("istio.yaml").text
    assert "mode: STRICT" in strict
    assert "mode: MUTUAL" in strict
    assert "mode: PERMISSIVE" in render(make_plan("istio", mode="permissive")).file("istio.yaml").text
    assert "accessPolicy: deny" in render(make_plan("linkerd")).file("linkerd.yaml").text
    assert "accessPolicy: audit" in render(make_plan("linkerd", mode="permissive")).file("linkerd.yaml").text


@pytest.mark.parametrize(
    ("type", "changes", "code"),
    [
        ("gateway", {}, "ingress-not-rendered"),
        ("caddy", {"revocation_source": "crl"}, "source-unsupported"),
        ("haproxy", {"revocation_source": "ocsp"}, "source-unsupported"),
        ("nginx", {"mode": "off"}, "ingress-off"),
    ],
)
def test_what_a_product_cannot_do_is_said(type: str, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(IntaglioError) as refused:
        render(make_plan(type, **changes))
    assert refused.value.code == code
    assert refused.value.remedy


def test_a_ca_without_a_crl_is_not_passed_over() -> None:
    status = make_status()
    with pytest.raises(IntaglioError) as refused:
        render(make_plan("nginx", status=Status(status.crls, status.ocsp_url, whole=False)))
    assert refused.value.code == "status-incomplete"


def test_questions_with_a_token_do_not_cross_a_network_in_the_clear() -> None:
    with pytest.raises(IntaglioError) as refused:
        make_plan("nginx", Layout(decisions="http://pki.example.com:8181"), revocation_source="live")
    assert refused.value.code == "decisions-in-the-clear"
    make_plan("nginx", Layout(decisions="https://pki.example.com:8181"), revocation_source="live")


def test_a_plain_hop_behind_the_ingress_is_pointed_at() -> None:
    warnings = render(make_plan("nginx", Layout(upstream="http://10.0.0.7:8080"))).warnings
    assert any("mutual TLS ends here" in warning for warning in warnings)


_PLACES = ("folder", "certificate", "key", "upstream", "decisions", "namespace", "workload", "bucket")
_ATTACKS = ('/x"; } evil', "/x\ny", "/x y", "/a/../b", "http://h:80/\n", "a;b")


@given(st.sampled_from(_PLACES), st.text(max_size=60) | st.sampled_from(_ATTACKS))
def test_no_text_of_the_layout_ends_the_place_it_stands_in(name: str, text: str) -> None:
    layout: dict[str, Any] = {name: text}
    try:
        made = render(make_plan("nginx", Layout(**layout), revocation_source="live"))
    except IntaglioError:
        return
    assert not any(character in text for character in "\"'{};\n \\$`#")
    assert "{{" not in made.file("nginx.conf").text


def test_no_value_with_other_characters_passes_the_gate() -> None:
    plan = make_plan("nginx")
    for text in ('a"b', "a\nb", "a{b", "a$b", "a`b", "a'b", "a\\b", "ä"):
        with pytest.raises(IntaglioError) as refused:
            render(replace(plan, ingress=replace(plan.ingress, organization=text)))
        assert refused.value.code == "value-unsafe"
