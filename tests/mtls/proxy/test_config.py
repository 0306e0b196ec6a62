"""Configurations of gateways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from intaglio.core.errors import InvalidInput
from intaglio.mtls.proxy.config import ByFiles, ByPlatform, ByServer, GatewayConfig, make_config, read_config
from intaglio.mtls.proxy.running import make_source
from intaglio.mtls.proxy.upstream import address

_FILES = {"trust": "trust.pem", "crls": ["a.crl"], "identities": ["*"]}
_SERVER = {"server": "https://pki.example:8443", "ingress": "demo~web", "token": "web.token"}


def _config(**changes: Any) -> dict[str, Any]:
    own = {"listen": ["127.0.0.1:9443"], "certificate": "a.pem", "key": "a.key", "decisions": _FILES}
    own |= {"upstream": {"url": "http://127.0.0.1:8080"}}
    return {name: value for name, value in {**own, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("decisions", "kind"), [(_FILES, ByFiles), (_SERVER, ByServer), ({"platform": "demo~web"}, ByPlatform)]
)
def test_decisions_are_told_apart(decisions: dict[str, Any], kind: type[Any]) -> None:
    assert isinstance(make_config(_config(decisions=decisions), folder=Path("/etc")).decisions, kind)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(_config()))
    found = read_config(tmp_path / "gateway.yaml")
    assert isinstance(found.decisions, ByFiles)
    assert (found.certificate, found.decisions.trust) == (tmp_path / "a.pem", tmp_path / "trust.pem")
    assert found.decisions.crls == (tmp_path / "a.crl",)


def test_addresses_of_both_families_are_read() -> None:
    found = make_config(_config(listen=["[::1]:1", "host.example:2"]), folder=Path())
    assert found.addresses == [("::1", 1), ("host.example", 2)]


@pytest.mark.parametrize(
    "wrong",
    [
        _config(listen=[]), _config(listen=["nowhere"]), _config(key=None), _config(certificate=None, key=None),
        _config(decisions={}), _config(decisions={**_FILES, "crls": []}),
        _config(decisions={**_FILES, "identities": []}),
        _config(decisions={**_FILES, "networks": ["10.0.0.1/8"]}), _config(decisions={**_FILES, "mode": "lax"}),
        _config(decisions={**_SERVER, "server": "http://pki.example"}), _config(upstream={}), _config(more=1),
        _config(upstream={"url": "http://a", "key": "a.key"}), _config(upstream={"url": "http://a", "verify": False}),
        None, [], "text",
    ],
)  # fmt: skip
def test_wrong_configuration_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="configuration of the gateway"):
        make_config(wrong, folder=Path())


@pytest.mark.parametrize("text", [b"a: [", b"\xff\xfe\x00", b"!!python/object:os.system {}", b"x" * 300_000])
def test_file_that_is_no_yaml_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "gateway.yaml").write_bytes(text)
    with pytest.raises(InvalidInput):
        read_config(tmp_path / "gateway.yaml")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nothing\.yaml"):
        read_config(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("url", ["ftp://a", "http://", "https://a/path", "http://a/?x", "a:80"])
def test_address_of_a_service_is_checked(url: str) -> None:
    with pytest.raises(InvalidInput, match="address of a service"):
        address(url)


def test_platform_decides_only_inside_of_a_server() -> None:
    with pytest.raises(InvalidInput, match="inside of a server"):
        make_source(make_config(_config(decisions={"platform": "demo~web"}), folder=Path()))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GatewayConfig.model_fields]), inner),
    max_leaves=12,
)


@given(_JSON)
def test_anything_is_a_configuration_or_refused(value: Any) -> None:
    try:
        assert isinstance(make_config(value, folder=Path()), GatewayConfig)
    except InvalidInput:
        return
