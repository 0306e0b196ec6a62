"""All built-in profiles: issued is what is declared, strict relying parties accept it, linters have nothing to say."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.profiles import custom, registry, testing, vocabulary
from intaglio.x509.certificates import pem, read_certificate

ALL = sorted(registry.builtin_profiles())

DS, NR, KE, DE, KA = "digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment", "keyAgreement"
C, S, EM, CS = "clientAuth", "serverAuth", "emailProtection", "codeSigning"
REQUEST = "from the request"

#: Key usage and extended key usage of every profile, written down a second time so that a slip in a declaration shows.
PROTOCOL_USES = {
    "digital-signature": {DS},
    "digital-signature-key-encipherment": {DS, KE},
    "key-encipherment": {KE},
    "non-repudiation": {DS, NR},
}
CONTENTS: dict[str, tuple[set[str], Any]] = {
    "basic-ca-root": ({DS, "keyCertSign", "cRLSign"}, None),
    "basic-ca-subord": ({DS, "keyCertSign", "cRLSign"}, None),
    "basic-ocsp": ({DS}, {"OCSPSigning"}),
    "azure-firewall-ca-subord": ({DS, "keyCertSign", "cRLSign"}, None),
    "tlsproxy-ca-subord": ({DS, "keyCertSign", "cRLSign"}, {S, C}),
    **{
        f"{group}-{use}": (usages, REQUEST)
        for group in ("est", "scep", "cmp", "wstep", "intune", "mdmws", "mdmws-p12")
        for use, usages in PROTOCOL_USES.items()
    },
    "wstep-non-repudiation-key-encipherment": ({DS, NR, KE}, REQUEST),
    **{
        f"{group}-digital-signature-key-encipherment-clientauth": ({DS, KE}, {C})
        for group in ("intune", "mdmws", "mdmws-p12")
    },
    "mobile-device-p12-digital-signature-client-authentication": ({DS}, {C}),
    "privatessl-tls-client": ({DS}, {C}),
    "privatessl-tls-client-server": ({DS}, {C, S}),
    "privatessl-tls-client-server-data-encipherment": ({DS, DE}, {C, S}),
    "privatessl-tls-client-server-supply-san": ({DS}, {C, S}),
    "privatessl-tls-server": ({DS}, {S}),
    "privatessl-tls-server-supply-san": ({DS}, {S}),
    **{
        f"multiuse-p12-{middle}{end}": (usages, purposes)
        for middle, usages in {
            "": {DS, KA},
            "key-encipherment-": {DS, KA, KE},
            "non-repudiation-": {DS, KA, NR},
            "key-encipherment-non-repudiation-": {DS, KA, KE, NR},
        }.items()
        for end, purposes in {"client": {C}, "client-server": {C, S}, "custom": REQUEST, "server": {S}}.items()
    },
    "multiuse-p12-key-data-encipherment-non-repudiation-client": ({DS, NR, KE, DE}, {C}),
    "multiuse-p12-key-data-encipherment-non-repudiation-client-server": ({DS, NR, KE, DE}, {C, S}),
    "smartcard-card-authentication": ({DS}, REQUEST),
    "smartcard-digital-signature": ({DS, NR}, REQUEST),
    "smartcard-domain-controller": ({DS, KE}, {S, C}),
    "smartcard-key-management": ({KE}, REQUEST),
    "smartcard-piv-authentication": ({DS}, {"anyExtendedKeyUsage", "smartcardLogon", C}),
    "smartcard-piv-content-signing": ({DS, NR}, REQUEST),
    "codesigning-digital-signature": ({DS}, {CS}),
    "smime-digital-signature-key-encipherment": ({DS, KE}, {C, EM}),
    "smime-key-encipherment": ({KE}, {EM}),
    "smime-non-repudiation": ({DS, NR}, {EM}),
    "v2g-supply-equipment": ({DS, KA}, {S}),
    "v2g-user-identity": ({DS, NR}, None),
    "esim-delivery-auth": ({DS}, None),
    "esim-delivery-binding": ({DS}, None),
    "esim-delivery-tls-server": ({DS}, {S}),
    "esim-discovery-auth": ({DS}, None),
    "esim-discovery-tls-server": ({DS}, {S}),
}
POLICIES = {
    "esim-delivery-auth": "2.23.146.1.2.1.4",
    "esim-delivery-binding": "2.23.146.1.2.1.5",
    "esim-delivery-tls-server": "2.23.146.1.2.1.3",
    "esim-discovery-auth": "2.23.146.1.2.1.7",
    "esim-discovery-tls-server": "2.23.146.1.2.1.6",
}


def openssl(*arguments: str | Path) -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def report(request: pytest.FixtureRequest, throw_away_ca: Any, keys: Any) -> testing.ProfileReport:
    """A trial of the profile whose id is the test's parameter."""
    profile = registry.get(request.param)
    key = keys(testing.representative_key_algorithm(profile))
    return testing.try_profile(profile, throw_away_ca, key=key, lint=False)


def test_the_table_names_every_profile() -> None:
    assert sorted(CONTENTS) == ALL


@pytest.mark.parametrize("profile_id", ALL)
def test_profile_declares_its_usages_and_policies(profile_id: str) -> None:
    profile = registry.get(profile_id)
    usages, purposes = CONTENTS[profile_id]
    assert set(profile.key_usage) == usages
    assert profile.eku_from_request == (purposes == REQUEST)
    assert set(profile.extended_key_usage) == (purposes if isinstance(purposes, set) else set())
    assert list(profile.certificate_policies) == ([POLICIES[profile_id]] if profile_id in POLICIES else [])
    assert profile.extended_key_usage_critical == (profile_id == "basic-ocsp")
    assert profile.fill_san_dns_with_cn == profile_id.endswith("-supply-san")


@pytest.mark.parametrize("report", ALL, indirect=True)
def test_issued_is_what_is_declared(report: testing.ProfileReport) -> None:
    assert report.differences == ()


@pytest.mark.parametrize("report", ALL, indirect=True)
def test_strict_openssl_accepts_the_certificate(report: testing.ProfileReport, tmp_path: Path) -> None:
    root, leaf = tmp_path / "root.pem", tmp_path / "leaf.pem"
    root.write_text(pem(report.issuer))
    leaf.write_text(pem(report.certificate))
    at = str(int(read_certificate(report.certificate).not_before.timestamp()) + 1)
    openssl("verify", "-x509_strict", "-attime", at, "-trusted", root, leaf)
    text = openssl("x509", "-in", leaf, "-noout", "-ext", "basicConstraints,keyUsage")
    assert ("X509v3 Basic Constraints: critical" in text) is (report.profile_id != "basic-ocsp")
    assert "X509v3 Key Usage: critical" in text


@pytest.mark.parametrize("profile_id", ALL)
def test_linter_has_nothing_to_say(profile_id: str, throw_away_ca: Any, keys: Any) -> None:
    profile = registry.get(profile_id)
    key = keys(testing.representative_key_algorithm(profile))
    report = testing.try_profile(profile, throw_away_ca, key=key)
    assert report.ok
    usages = CONTENTS[profile_id][0]
    # No key type serves both; the linter says so and the profile wants it nevertheless.
    expected = {"pkix.key_usage_value_prohibited_for_rsa"} if {KA, KE} <= usages else set()
    assert {finding.code for finding in report.findings} == expected


def test_trial_of_a_profile_that_issues_something_else_names_the_difference(throw_away_ca: Any, keys: Any) -> None:
    declared = registry.get("est-digital-signature")
    key = keys(KeyAlgorithm.ECDSA_P256)
    issued = testing.try_profile(declared, throw_away_ca, key=key, lint=False)
    other = custom.clone(declared, "other", {"key_usage": ["keyAgreement"], "eku_from_request": False, "cdp": "never"})
    differences = list(testing.compare(other, issued.certificate, throw_away_ca.certificate))
    assert any(line.startswith("keyUsage is ") for line in differences)
    assert "extendedKeyUsage is issued and not declared" in differences
    assert "cRLDistributionPoints is issued and not declared" in differences


def test_trial_reports_a_refusal(throw_away_ca: Any, keys: Any) -> None:
    profile = custom.clone(registry.get("est-key-encipherment"), "post-quantum", {"key_algorithms": ["ml-dsa-44"]})
    report = testing.try_profile(profile, throw_away_ca, key=keys(KeyAlgorithm.ML_DSA_44))
    assert not report.ok
    assert report.differences[0].startswith("refused: The key usage keyEncipherment")


def test_every_purpose_and_extension_has_one_name_and_one_identifier() -> None:
    for table in (vocabulary.PURPOSES, vocabulary.EXTENSIONS):
        assert len(set(table.values())) == len(table)
