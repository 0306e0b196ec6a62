"""Advice about profile declarations."""

from __future__ import annotations

from typing import Any

import pytest

from intaglio.profiles import custom, registry
from intaglio.profiles.lint import lint_profile


def codes(profile: Any) -> set[str]:
    return {finding.code for finding in lint_profile(profile)}


def changed(profile_id: str, **changes: Any) -> Any:
    return custom.clone(registry.get(profile_id), "changed", changes)


def test_built_in_profiles_have_warnings_at_most() -> None:
    for profile in registry.builtin_profiles().values():
        assert all(finding.severity == "warning" and finding.text for finding in lint_profile(profile))


@pytest.mark.parametrize("profile_id", ["basic-ca-root", "basic-ca-subord", "basic-ocsp", "esim-delivery-auth"])
def test_there_is_nothing_to_say_about_a_narrow_profile(profile_id: str) -> None:
    assert codes(registry.get(profile_id)) == set()


@pytest.mark.parametrize(
    ("profile_id", "code", "cure"),
    [
        ("est-digital-signature", "any-purpose-when-silent", {"eku_default": ["clientAuth"]}),
        ("est-key-encipherment", "encryption-with-ecdsa", {"key_algorithms": ["rsa-3072"]}),
        ("v2g-supply-equipment", "key-agreement-with-rsa", {"key_algorithms": ["P-256"]}),
        ("multiuse-p12-server", "server-without-name", {"require_san_for_server": True}),
        ("privatessl-tls-server", "no-static-rsa", {"key_usage": ["digitalSignature", "keyEncipherment"]}),
        ("esim-delivery-tls-server", "server-too-long", {"validity": {"default": "P1Y"}}),
        ("smime-non-repudiation", "mail-without-address", {"san_requirements": [{"type": "email", "required": True}]}),
        ("smartcard-piv-authentication", "dangerous-purposes", {"extended_key_usage": ["clientAuth"]}),
    ],
)
def test_advice_is_given_until_it_is_followed(profile_id: str, code: str, cure: dict[str, Any]) -> None:
    assert code in codes(registry.get(profile_id))
    assert code not in codes(changed(profile_id, **cure))


def test_domain_controller_is_advised_to_carry_the_kdc_purpose() -> None:
    source = registry.get("smartcard-domain-controller")
    assert "no-kdc-purpose" in codes(source)
    purposes = ["serverAuth", "clientAuth", "pkinitKdc"]
    cured = custom.clone(source, "domain-controller-kdc", {"extended_key_usage": purposes})
    assert "no-kdc-purpose" not in codes(cured)


def test_opened_dangerous_purposes_are_pointed_out() -> None:
    opened = changed("est-digital-signature", eku_allow=["codeSigning"])
    assert "codeSigning" in next(f.text for f in lint_profile(opened) if f.code == "dangerous-purposes")
