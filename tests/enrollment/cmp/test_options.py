"""Options of CMP endpoints, judged when they are given."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.foreign import ForeignCa

from intaglio.core.errors import InvalidInput
from intaglio.enrollment.cmp.options import CmpOptions
from intaglio.enrollment.protocols import read_options
from intaglio.enrollment.values import Protocol


def test_the_defaults_are_good() -> None:
    options = CmpOptions()
    assert (options.protections, options.names, options.unconfirmed) == (("signature", "mac"), "certificate", "revoke")
    assert "sha1" not in options.digests
    assert options.minimum_rsa_bits == 2048


def test_a_fingerprint_may_be_written_as_openssl_does() -> None:
    text = ":".join(["AB"] * 32)
    assert CmpOptions(registration_authorities=(text,)).registration_authorities == ("ab" * 32,)


@pytest.mark.parametrize(
    "values",
    [
        {"trusted": ["not a certificate"]},
        {"trusted": [ForeignCa().leaf().public_bytes(Encoding.PEM).decode()]},
        {"registration_authorities": ["abc"]},
        {"mac_iterations": [100, 10]},
        {"mac_iterations": [0, 10]},
        {"mac_iterations": [1, 10_000_001]},
        {"minimum_rsa_bits": 1024},
        {"minimum_ec_bits": 192},
        {"protections": []},
        {"excluded_tests": ["all"]},
        {"curves": ["P-192"]},
        {"unknown": 1},
    ],
)
def test_what_cannot_be_is_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_options(Protocol.CMP, values)
    assert refused.value.code == "endpoint-options-invalid"
    assert f"/{next(iter(values))}" in (refused.value.fields[0][0] + refused.value.detail + str(refused.value.target))
