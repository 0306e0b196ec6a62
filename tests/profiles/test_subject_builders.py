"""Subject builders: from variables, from a template, from an alternative name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from intaglio.core.errors import InvalidInput
from intaglio.profiles import custom, registry
from intaglio.profiles.declarations import dump_declaration, parse_declaration
from intaglio.profiles.subject_builders import SubjectBuilder
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import Name

PERSON = SubjectBuilder(name="template", template="cn=<First Name> <Last Name>,ou=CA01,o=Demo,c=AT")
DEVICE = SubjectBuilder(name="template", template="cn=<CN>+uid=<uid>,o=Demo")
HOST = SubjectBuilder.model_validate(
    {"name": "san", "template": "cn=<SAN>,ou=CA01,o=Demo", "san_type_order": "dnsName, ipaddress"}
)


def text(builder: SubjectBuilder, *variables: tuple[str, str], csr: str | None = None, san: Any = ()) -> str:
    names = [GeneralNames.build(each) if each else None for each in san]
    return builder.subject(variables, Name.parse(csr) if csr else None, names).rfc4514


def test_variables_are_joined_in_order_of_arrival() -> None:
    assert text(SubjectBuilder(), ("cn", "test"), ("o", "pki")) == "CN=test,O=pki"
    assert text(SubjectBuilder(), csr="CN=from the request") == "CN=from the request"
    assert text(SubjectBuilder()) == ""


def test_a_template_is_filled_from_variables_whatever_their_case() -> None:
    assert text(PERSON, ("first name", "Ada"), ("LAST  NAME", "Lovelace")) == "CN=Ada Lovelace,OU=CA01,O=Demo,C=AT"


def test_a_template_is_filled_from_the_request_when_there_are_no_variables() -> None:
    assert text(DEVICE, csr="UID=4711,CN=box,O=Others") == text(DEVICE, ("cn", "box"), ("uid", "4711"))
    assert text(DEVICE, csr="UID=4711,CN=box,O=Others").endswith(",O=Demo")
    several = SubjectBuilder(name="template", template="cn=<cn.2>,ou=<cn.1>,ou=<CN>,ou=<cn.3>")
    assert text(several, csr="/CN=first/CN=second/CN=third") == "CN=second,OU=first,OU=first,OU=third"


def test_a_variable_wins_over_the_request() -> None:
    template = SubjectBuilder(name="template", template="cn=<cn>")
    assert text(template, ("cn", "asked"), csr="CN=requested") == "CN=asked"


def test_a_value_cannot_bring_further_attributes() -> None:
    template = SubjectBuilder(name="template", template="cn=<x>,o=Demo")
    for evil in ("a,o=evil", "a+ou=evil", 'a",o="evil', "a\\,o=evil", "<x>", "#0C01", "/O=evil"):
        subject = template.subject([("x", evil)], None, [])
        assert subject.common_names == (evil,)
        assert [len(rdn) for rdn in subject.attributes] == [1, 1]


@given(st.text(max_size=60))
def test_any_value_becomes_one_attribute_or_is_refused(value: str) -> None:
    template = SubjectBuilder(name="template", template="cn=<x>,o=Demo")
    try:
        subject = template.subject([("x", value)], None, [])
    except InvalidInput:
        return
    assert [len(rdn) for rdn in subject.attributes] == [1, 1]


@given(st.text(alphabet="cno=<>,+ \\\"#x.1SAN", max_size=40))
def test_any_template_is_taken_or_refused(template: str) -> None:
    for extra in ({"name": "template"}, {"name": "san", "san_type_order": ["dns"]}):
        try:
            builder = SubjectBuilder.model_validate({"template": template, **extra})
        except ValidationError:
            continue
        assert builder.placeholders


@pytest.mark.parametrize(
    ("variables", "csr", "named"),
    [
        ([("First Name", "Ada")], None, "Last Name"),
        ([("First Name", "Ada"), ("Last Name", " ")], "CN=x", "Last Name"),
        ([], "CN=Ada", "First Name"),
    ],
)
def test_a_placeholder_without_value_is_named(variables: list[tuple[str, str]], csr: str | None, named: str) -> None:
    with pytest.raises(InvalidInput, match=f"<{named}>") as refusal:
        text(PERSON, *variables, csr=csr)
    assert refusal.value.code == "subject-template-unresolved"


def test_the_first_type_that_is_there_names_the_subject() -> None:
    both = [("iPAddress", "192.0.2.1"), ("dNSName", "box.example")]
    assert text(HOST, san=[both]) == "CN=box.example,OU=CA01,O=Demo"
    assert text(HOST, san=[both[:1]]) == "CN=192.0.2.1,OU=CA01,O=Demo"
    assert text(HOST, csr="CN=other", san=[None, both]) == "CN=box.example,OU=CA01,O=Demo"
    assert text(HOST, san=[both[:1], both]) == "CN=192.0.2.1,OU=CA01,O=Demo"


def test_the_type_that_names_the_subject_must_have_one_value() -> None:
    with pytest.raises(InvalidInput, match="2 of them") as refusal:
        text(HOST, san=[[("dNSName", "a.example"), ("dNSName", "b.example")]])
    assert refusal.value.code == "subject-names-ambiguous"
    with pytest.raises(InvalidInput) as refusal:
        text(HOST, san=[[("rfc822Name", "a@example.com")]])
    assert (refusal.value.code, refusal.value.target) == ("subject-template-unresolved", "subjectAltNames")


@pytest.mark.parametrize("package", ["", "com.example.gateway.common.subjects."])
def test_class_names_of_other_gateways_are_understood(package: str) -> None:
    for class_name, name in (("Basic", "basic"), ("SubAltName", "san"), ("Template", "template")):
        declared = {"name": f"{package}{class_name}SubjectBuilder"}
        if name != "basic":
            declared["template"] = "cn=<SAN>"
        if name == "san":
            declared["san_type_order"] = "dNSName,iPAddress,registeredID,rfc822Name,uniformResourceIdentifier"
        if name == "template":
            declared["template"] = "cn=<cn>"
        assert SubjectBuilder.model_validate(declared).name == name


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        ({"name": "template"}, "needs a template"),
        ({"name": "basic", "template": "cn=<x>"}, "has no template"),
        ({"name": "template", "template": "cn=fixed"}, "no <placeholder>"),
        ({"name": "template", "template": "cn=<x>,nonsense"}, "no distinguished name"),
        ({"name": "template", "template": "colour=<x>"}, "no distinguished name"),
        ({"name": "template", "template": "cn=<Badge>"}, "nothing can fill <Badge>"),
        ({"name": "template", "template": "cn=<cn>", "san_type_order": ["dns"]}, "has no san_type_order"),
        ({"name": "san", "template": "cn=<SAN>"}, "needs a san_type_order"),
        ({"name": "san", "template": "cn=<SAN>,ou=<ou>", "san_type_order": ["dns"]}, "not <ou>"),
        ({"name": "san", "template": "cn=<SAN>", "san_type_order": ["dns", "dNSName"]}, "twice"),
        ({"name": "san", "template": "cn=<SAN>", "san_type_order": ["directoryName"]}, "cannot become part"),
        ({"name": "magic"}, "subject_builder.name"),
    ],
)
def test_a_builder_that_cannot_work_is_refused_when_it_is_declared(declared: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        custom.clone(registry.get("privatessl-tls-client"), "with-builder", {"subject_builder": declared})
    assert why in refusal.value.detail


def test_a_profile_with_builder_survives_writing_and_reading() -> None:
    changes = {
        "subject_builder": PERSON.model_dump(mode="json"),
        "subject_variable_requirements": [
            {"name": "First Name", "required": True},
            {"name": "Last Name", "required": True},
        ],
        "copy_cn_to_san": True,
    }
    profile = custom.clone(registry.get("privatessl-tls-client"), "staff", changes)
    assert parse_declaration(dump_declaration(profile)) == profile
    with pytest.raises(InvalidInput, match="choose one"):
        custom.revise(profile, {"fill_san_dns_with_cn": True})
