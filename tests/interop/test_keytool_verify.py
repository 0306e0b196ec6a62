"""The verdict of `keytool verify` and the one of `openssl verify`, over the same certificates."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from tests.mtls.toolkit.test_verification import Node, make_node
from tests.support.programs import attempt

from intaglio.core import clock
from intaglio.mtls.toolkit.verification import Question, verify

_NOW = clock.now().replace(microsecond=0)
_STRANGE = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
_ONLY_EXAMPLE = x509.NameConstraints([x509.DNSName("example")], None)
_NO_ADDRESSES = x509.NameConstraints(None, [x509.IPAddress(ipaddress.ip_network("0.0.0.0/0"))])
_WWW, _ADDRESS = x509.DNSName("www.example"), x509.IPAddress(ipaddress.ip_address("192.0.2.1"))
_OTHER, _LOOKALIKE = x509.DNSName("www.other"), x509.DNSName("wwwexample")

#: What is special: about the leaf, about the issuing CA, and whether it may hold.
_CASES: dict[str, tuple[dict[str, object], dict[str, object], bool]] = {
    "plain": ({}, {}, True),
    "client": ({"eku": [Usage.CLIENT_AUTH]}, {}, True),
    "server only": ({"eku": [Usage.SERVER_AUTH]}, {}, False),
    "expired": ({"start": _NOW - timedelta(days=30), "days": 29}, {}, False),
    "not yet valid": ({"start": _NOW + timedelta(days=1)}, {}, False),
    "expired issuer": ({}, {"start": _NOW - timedelta(days=30), "days": 29}, False),
    "issuer is no CA": ({}, {"ca": False}, False),
    "path length": ({}, {"path_length": 0}, True),
    "unknown critical": ({"more": [(_STRANGE, True)]}, {}, False),
    "unknown harmless": ({"more": [(_STRANGE, False)]}, {}, True),
    "permitted name": ({"sans": [_WWW]}, {"more": [(_ONLY_EXAMPLE, True)]}, True),
    "other name": ({"sans": [_OTHER]}, {"more": [(_ONLY_EXAMPLE, True)]}, False),
    "lookalike": ({"sans": [_LOOKALIKE]}, {"more": [(_ONLY_EXAMPLE, True)]}, False),
    "excluded address": ({"sans": [_ADDRESS]}, {"more": [(_NO_ADDRESSES, True)]}, False),
    "issuer for servers": ({}, {"eku": [Usage.SERVER_AUTH]}, False),
}


@pytest.mark.parametrize("case", _CASES)
def test_both_say_the_same(case: str, tmp_path: Path) -> None:
    leaf_options, issuer_options, holds = _CASES[case]
    start = {"start": _NOW - timedelta(days=1)}
    root = make_node("root", ca=True, days=365, **start)
    issuing = make_node("issuing", root, **{"ca": True, **start, **issuer_options})  # type: ignore[arg-type]
    leaf = make_node("alice", issuing, **{**start, **leaf_options})  # type: ignore[arg-type]
    assert _openssl(tmp_path, leaf, [issuing], root) == holds
    verdict = verify(leaf.info, [issuing.info], [root.info], Question(at=clock.now(), purpose="client"))
    assert verdict.valid == holds, verdict.reason


def test_both_refuse_a_ca_below_a_path_length_of_zero(tmp_path: Path) -> None:
    start = {"start": _NOW - timedelta(days=1)}
    root = make_node("root", ca=True, days=365, **start)
    issuing = make_node("issuing", root, ca=True, path_length=0, **start)
    below = make_node("below", issuing, ca=True, **start)
    leaf = make_node("alice", below, **start)
    assert not _openssl(tmp_path, leaf, [issuing, below], root)
    asked = Question(at=clock.now(), purpose="client")
    assert not verify(leaf.info, [issuing.info, below.info], [root.info], asked).valid


def _openssl(folder: Path, leaf: Node, between: Sequence[Node], root: Node) -> bool:
    for name, nodes in (("leaf", [leaf]), ("between", between), ("root", [root])):
        pem = b"".join(each.certificate.public_bytes(Encoding.PEM) for each in nodes)
        (folder / f"{name}.pem").write_bytes(pem)
    arguments = ("-purpose", "sslclient", "-CAfile", "root.pem", "-untrusted", "between.pem", "leaf.pem")
    return attempt("openssl", "verify", *arguments, cwd=folder).status == 0
