"""Profile declarations: what they may say, how they are read, cloned and revised."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core.errors import Forbidden, InvalidInput, NotFound
from intaglio.profiles import custom, registry, vocabulary
from intaglio.profiles.declarations import dump_declaration, parse_declaration
from intaglio.profiles.describe import describe

MINIMAL = """
id: my-profile
title: Mine
group: custom
channels: [gateway-api]
key_usage: [digitalSignature]
validity: {default: P90D}
"""

GROUP_SIZES = {
    "azure-firewall": 1,
    "basic": 3,
    "cmp": 4,
    "codesigning": 1,
    "esim": 5,
    "est": 4,
    "intune": 5,
    "mdmws": 10,
    "mobile-device": 1,
    "multiuse": 18,
    "privatessl": 6,
    "scep": 4,
    "smartcard": 6,
    "smime": 3,
    "tlsproxy": 1,
    "v2g": 2,
    "wstep": 5,
}


def problems(text: str) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        parse_declaration(text)
    assert caught.value.code == "profile-invalid"
    return dict(caught.value.fields)


# ---- the built-in profiles -------------------------------------------------------------------------------------------


def test_there_are_79_profiles_in_17_groups() -> None:
    sizes: dict[str, int] = {}
    for profile in registry.builtin_profiles().values():
        sizes[profile.group] = sizes.get(profile.group, 0) + 1
    assert sizes == GROUP_SIZES
    assert sum(sizes.values()) == 79


def test_basic_profiles_are_hidden_from_listings() -> None:
    offered = {profile.id for profile in registry.listed()}
    assert len(offered - set(registry.identity_profiles())) == 76
    assert not offered & {"basic-ca-root", "basic-ca-subord", "basic-ocsp"}
    assert len(registry.listed(hidden=True)) == 79 + 5


def test_profiles_of_identities_are_for_the_registry_of_identities_only() -> None:
    kinds = ("device", "pipeline", "service", "user", "workload")
    assert list(registry.identity_profiles()) == [f"identity-{kind}" for kind in kinds]
    for profile in registry.identity_profiles().values():
        assert profile.channels == ("mtls",)
        assert profile.key_usage == ("digitalSignature",)
        assert profile.default_purpose_oids == ("1.3.6.1.5.5.7.3.2",)
        assert profile.issuance_modes == ("csr",)
        assert not profile.configurable
        assert parse_declaration(dump_declaration(profile)) == profile
    longest = {id: str(profile.validity.maximum) for id, profile in registry.identity_profiles().items()}
    assert longest == {
        "identity-device": "P90D",
        "identity-pipeline": "P1D",
        "identity-service": "P3D",
        "identity-user": "P500D",
        "identity-workload": "P3D",
    }


def test_basic_profiles_can_be_used_by_the_platform_only() -> None:
    for profile_id in ("basic-ca-root", "basic-ca-subord", "basic-ocsp"):
        assert registry.get(profile_id).channels == ("platform",)
    assert not any("platform" in profile.channels for profile in registry.listed())


@pytest.mark.parametrize("spelling", ["est_digital_signature", "EST-Digital-Signature", " est-digital_signature "])
def test_underscores_and_case_do_not_matter_in_a_profile_id(spelling: str) -> None:
    assert registry.resolve(spelling).id == "est-digital-signature"


def test_unknown_profile_is_named_in_the_refusal() -> None:
    with pytest.raises(NotFound, match="no-such-profile") as caught:
        registry.resolve("no-such-profile")
    assert caught.value.code == "profile-unknown"
    assert caught.value.extra == {"step": "profile"}


def test_custom_profile_is_found_but_never_hides_a_built_in_one() -> None:
    mine = parse_declaration(MINIMAL)
    impostor = mine.model_copy(update={"id": "est-digital-signature"})
    stored = {"my-profile": mine, "est-digital-signature": impostor}
    assert registry.resolve("my_profile", stored) is mine
    assert registry.resolve("est-digital-signature", stored).group == "est"


@pytest.mark.parametrize("profile_id", sorted(registry.builtin_profiles()))
def test_built_in_declaration_survives_writing_and_reading(profile_id: str) -> None:
    profile = registry.get(profile_id)
    assert parse_declaration(dump_declaration(profile)) == profile


def test_every_built_in_profile_accepts_exactly_the_six_key_types() -> None:
    six = {"ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "rsa-3072", "rsa-4096"}
    for profile in registry.builtin_profiles().values():
        assert {algorithm.value for algorithm in profile.key_algorithms} == six


def test_p12_mode_is_offered_by_the_p12_profiles_only() -> None:
    offering = {profile.id for profile in registry.listed(hidden=True) if "p12" in profile.issuance_modes}
    assert offering == {profile_id for profile_id in registry.builtin_profiles() if "-p12-" in profile_id}
    assert len(offering) == 24


def test_description_names_extension_criticality_and_source() -> None:
    rows = {row.name: row for row in describe(registry.get("basic-ocsp")).extensions}
    assert rows["extendedKeyUsage"].critical
    assert rows["extendedKeyUsage"].value == "OCSPSigning"
    assert rows["authorityKeyIdentifier"].source == "issuer"
    assert rows["ocspNoCheck"].present == "always"
    custom_rows = {row.name: row for row in describe(registry.get("multiuse-p12-custom")).extensions}
    assert custom_rows["extendedKeyUsage"].source == "request"
    assert custom_rows["applicationPolicies"].present == "if requested"


# ---- reading declarations --------------------------------------------------------------------------------------------


def test_names_are_normalised() -> None:
    profile = parse_declaration(
        MINIMAL.replace("my-profile", "my_profile").replace("[digital", "[contentCommitment, DIGITAL")
        + "extended_key_usage: [1.3.6.1.5.5.7.3.2, EMAILPROTECTION]\nkey_algorithms: [P-256, ml-dsa-65]\n"
        + "subject_required: [CommonName]\nsan_requirements: [{type: DNS, required: true}]\n"
    )
    assert profile.id == "my-profile"
    assert profile.key_usage == ("nonRepudiation", "digitalSignature")
    assert profile.extended_key_usage == ("clientAuth", "emailProtection")
    assert profile.key_algorithms == (KeyAlgorithm.ECDSA_P256, KeyAlgorithm.ML_DSA_65)
    assert profile.subject_required == ("CN",)
    assert profile.required_san_types == ("dNSName",)


def test_wrong_fields_are_named_by_their_path() -> None:
    found = problems(
        MINIMAL.replace("[digitalSignature]", "[digitalSignature, signing]").replace("P90D", "ninety")
        + "colour: red\nsan_requirements: [{type: dNSName, required: true}, {type: phone, required: true}]\n"
    )
    assert "not a key usage" in found["key_usage[1]"]
    assert "not an ISO 8601 duration" in found["validity.default"]
    assert found["colour"] == "is not a field of a profile"
    assert "not a type of general name" in found["san_requirements[1].type"]


def test_missing_fields_are_named() -> None:
    assert problems("id: x-y-z")["title"] == "is missing"


@pytest.mark.parametrize(
    ("addition", "expected"),
    [
        ("key_usage: [digitalSignature, keyCertSign]", "only for CA certificates"),
        ("extended_key_usage: [OCSPSigning]", "only for OCSP signers"),
        ("eku_from_request: true\neku_allow: [OCSPSigning]", "only for OCSP signers"),
        ("eku_from_request: true\neku_default: [codeSigning]", "may not hand out codeSigning"),
        ("eku_from_request: true\nextended_key_usage: [clientAuth]", "write eku_default instead"),
        ("request_extensions: [extendedKeyUsage]", "set eku_from_request"),
        ("request_extensions: [basicConstraints]", "written by the authority"),
        ("request_extensions: [nameConstraints]", "written by the authority"),
        (f"request_extensions: [{vocabulary.IDENTITY_ATTRIBUTES}]", "written by the authority"),
        ("basic_constraints: {path_length: 0}", "only for CA certificates"),
        ("kind: subordinate", "must have basic_constraints.ca"),
        ("ocsp_no_check: true", "only for OCSP signers"),
        ("key_usage: [digitalSignature, decipherOnly]", "without keyAgreement"),
        ("key_usage: [digitalSignature, digitalSignature]", "twice"),
        ("validity: {default: P2Y, maximum: P1Y}", "longer than validity.maximum"),
        ("validity: {default: P0D}", "zero length"),
        ("certificate_policies: [3.1.1]", "object identifier"),
        ("certificate_policies: [1.40.1.2]", "object identifier"),
        ("key_algorithms: [rsa-1024]", "not a key algorithm"),
        ("subject_required: [Shoe]", "not an attribute type"),
    ],
)
def test_contradictory_declaration_is_refused(addition: str, expected: str) -> None:
    replaced = {line.split(":")[0] for line in addition.splitlines()}
    kept = [line for line in MINIMAL.strip().splitlines() if line.split(":")[0] not in replaced]
    text = "\n".join([*kept, addition])
    assert expected in " ".join(problems(text).values())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a list",
        "id: [",
        "1: 2",
        "id: &a x\ntitle: *a",
        MINIMAL + "title: again\n",
        MINIMAL + "validity: {default: P1Y, default: P2Y}\n",
        "[" * 5000,
        "{a: " * 5000,
        "x: " + "y" * 40_000,
        "id: !!python/object/apply:os.system ['true']",
        "when: 2026-13-45",
        "\ud800",
        "a: \x00",
    ],
)
def test_hostile_yaml_is_refused_with_one_clear_error(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_declaration(text)
    assert caught.value.code == "profile-invalid"


@given(st.text(max_size=400))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        parse_declaration(text)


@given(st.integers(0, len(MINIMAL) - 1), st.text(min_size=1, max_size=3))
def test_any_damaged_declaration_is_read_or_refused(position: int, garbage: str) -> None:
    with contextlib.suppress(InvalidInput):
        assert parse_declaration(MINIMAL[:position] + garbage + MINIMAL[position + 1 :]).validity


# ---- custom profiles -------------------------------------------------------------------------------------------------


def test_clone_changes_the_named_fields_only() -> None:
    source = registry.get("privatessl-tls-server")
    made = custom.clone(source, "tls_rsa", {"key_usage": ["digitalSignature", "keyEncipherment"], "title": "TLS, RSA"})
    assert (made.id, made.version, made.based_on) == ("tls-rsa", 1, "privatessl-tls-server 1")
    assert made.key_usage == ("digitalSignature", "keyEncipherment")
    assert made.model_dump(exclude={"id", "title", "key_usage", "based_on"}) == source.model_dump(
        exclude={"id", "title", "key_usage", "based_on"}
    )


def test_clone_may_admit_new_key_types() -> None:
    made = custom.clone(registry.get("privatessl-tls-server"), "tls-pq", {"key_algorithms": ["ed25519", "ml-dsa-44"]})
    assert made.key_algorithms == (KeyAlgorithm.ED25519, KeyAlgorithm.ML_DSA_44)


def test_basic_profiles_cannot_be_cloned() -> None:
    for profile_id in ("basic-ca-root", "basic-ca-subord", "basic-ocsp"):
        with pytest.raises(Forbidden) as caught:
            custom.clone(registry.get(profile_id), "mine", {})
        assert caught.value.code == "profile-immutable"


@pytest.mark.parametrize("field", ["id", "kind", "version", "based_on", "configurable"])
def test_what_identifies_a_profile_cannot_be_changed(field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        custom.clone(registry.get("est-digital-signature"), "mine", {field: "x"})


@pytest.mark.parametrize("bad", ["ab", "x" * 65, "1st", "a--b", "ends-", "a b", "ümlaut", "est_key_encipherment"])
def test_ids_of_custom_profiles_have_a_grammar_and_leave_built_in_ones_alone(bad: str) -> None:
    with pytest.raises(InvalidInput):
        custom.clone(registry.get("est-digital-signature"), bad, {})


def test_every_change_makes_a_new_version_and_no_change_makes_none() -> None:
    first = custom.clone(registry.get("est-digital-signature"), "mine", {})
    second = custom.revise(first, {"eku_default": ["clientAuth"]})
    assert second.version == 2
    assert custom.revise(second, {"eku_default": ["1.3.6.1.5.5.7.3.2"]}) is second
    assert custom.revise(second, {"title": "Other"}).version == 3


def test_built_in_profiles_cannot_be_revised() -> None:
    with pytest.raises(Forbidden, match="Clone it"):
        custom.revise(registry.get("est-digital-signature"), {"title": "x"})


def test_declared_profile_counts_its_versions() -> None:
    first = custom.from_declaration(MINIMAL)
    assert first.version == 1
    assert custom.from_declaration(MINIMAL, first) == first
    assert custom.from_declaration(MINIMAL.replace("P90D", "P60D"), first).version == 2


def test_declared_profile_cannot_pretend_to_be_the_platforms_own() -> None:
    text = MINIMAL.replace("channels", "kind: ocsp-signer\nextended_key_usage: [OCSPSigning]\nchannels")
    with pytest.raises(InvalidInput, match="ocsp-signer"):
        custom.from_declaration(text)
    with pytest.raises(InvalidInput, match="built-in"):
        custom.from_declaration(MINIMAL.replace("my-profile", "est-digital-signature"))
