"""Open private keys are found wherever they lie, and placeholders and encrypted keys are left alone."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from intaglio.asn1.algorithms import KeyAlgorithm, generate_private_key
from intaglio.core.errors import InvalidInput, Refused
from intaglio.mtls.posture.scanners import report
from intaglio.mtls.posture.scanners.keys import (
    judge,
    refuse_keys_in_environment,
    scan_environment,
    scan_history,
    scan_image,
    scan_keys,
)
from intaglio.mtls.posture.scanners.trees import Blob
from intaglio.mtls.toolkit import keys

_KEY = generate_private_key(KeyAlgorithm.ECDSA_P256)
_PEM = keys.encode_key(_KEY, None).decode()
_LOCKED = keys.encode_key(_KEY, "secret", iterations=1000).decode()
_TRADITIONAL = _KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
_OPENSSH = _KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
_BASE64 = base64.b64encode(_PEM.encode()).decode()
_ONE_LINE = _PEM.strip().replace("\n", "\\n")


def _rules(place: str, content: str | bytes, mode: int | None = None) -> list[str]:
    data = content.encode() if isinstance(content, str) else content
    return [each.rule.id for each in judge(Blob(place, data, mode))]


@pytest.mark.parametrize(
    "content", [_PEM, _TRADITIONAL, _OPENSSH, f"name: x\nkey: |\n{_PEM}", f'{{"key": "{_ONE_LINE}"}}']
)
def test_a_plain_key_in_any_form_is_found(content: str) -> None:
    assert _rules("service.txt", content) == ["plaintext-key"]


def test_der_is_found_by_its_content() -> None:
    assert _rules("service.key", keys.encode_key(_KEY, None, form="der")) == ["plaintext-key"]
    assert _rules("service.key", keys.encode_key(_KEY, "secret", iterations=1000, form="der")) == []


@pytest.mark.parametrize(
    "content",
    [
        _LOCKED,
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\n" + "A" * 64 + "\n-----END PRIVATE KEY-----\n",
        "if text.startswith('-----BEGIN PRIVATE KEY-----'): return",
    ],
)
def test_encrypted_keys_and_placeholders_are_no_findings(content: str) -> None:
    assert _rules("a.pem", content, 0o600) == []


def test_environment_files_and_dockerfiles_are_named_as_such() -> None:
    assert _rules(".env", f"TLS_KEY={_BASE64}\n") == ["plaintext-key-in-environment"]
    assert _rules("prod.env", f'TLS_KEY="{_ONE_LINE}"\n') == ["plaintext-key-in-environment"]
    assert _rules("Dockerfile", f"ENV TLS_KEY={_BASE64}\n") == ["plaintext-key-in-environment"]
    assert _rules("start.sh", f"export TLS_KEY={_BASE64}\n") == ["plaintext-key-in-environment"]


def test_a_kubernetes_secret_is_decoded_and_named() -> None:
    secret = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: pay-tls}}\ndata:\n  tls.key: {_BASE64}\n"
    (found,) = judge(Blob("secret.yaml", secret.encode()))
    assert found.rule.id == "plaintext-key-in-secret"
    assert "Secret pay-tls, key tls.key" in found.text
    locked = base64.b64encode(_LOCKED.encode()).decode()
    assert _rules("secret.yaml", secret.replace(_BASE64, locked)) == []


def test_lax_modes_of_key_files_are_found(tmp_path: Path) -> None:
    path = tmp_path / "service.key"
    path.write_text(_PEM)
    path.chmod(0o644)
    assert {each.rule.id for each in scan_keys(tmp_path).findings} == {"plaintext-key", "key-file-mode"}
    path.chmod(0o600)
    assert {each.rule.id for each in scan_keys(tmp_path).findings} == {"plaintext-key"}


def test_no_report_repeats_the_key(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"KEY={_BASE64}\n{_PEM}")
    told = report.as_text(scan_keys(tmp_path)) + json.dumps(report.as_json(scan_keys(tmp_path)))
    assert _BASE64[60:100] not in told
    assert _PEM.splitlines()[1] not in told


def test_a_key_that_was_deleted_is_found_in_the_history(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / "old.pem").write_text(_PEM)
    git("add", ".")
    git("commit", "-qm", "add")
    git("rm", "-q", "old.pem")
    git("commit", "-qm", "remove")
    assert scan_keys(tmp_path, gitignore=True).findings == []
    (found,) = scan_history(tmp_path).findings
    assert found.rule.id == "plaintext-key-in-history"
    assert found.place.endswith(":old.pem")


def test_ignored_files_are_left_out_on_demand(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text("*.pem\n")
    (tmp_path / "local.pem").write_text(_PEM)
    assert len(scan_keys(tmp_path).findings) >= 1
    assert scan_keys(tmp_path, gitignore=True).findings == []


def test_what_is_no_repository_or_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refusal:
        scan_history(tmp_path)
    assert refusal.value.code == "not-a-repository"
    (tmp_path / "x.tar").write_bytes(b"no archive")
    with pytest.raises(InvalidInput) as refusal:
        scan_image(tmp_path / "x.tar")
    assert refusal.value.code == "image-unreadable"


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("layout", ["archive", "folder"])
def test_keys_in_image_layers_and_environment_are_found(tmp_path: Path, layout: str) -> None:
    configuration = json.dumps({"config": {"Env": [f"TLS_KEY={_ONE_LINE}"]}}).replace("\\\\n", "\\n").encode()
    layer = _tar({"etc/app/tls.key": _PEM.encode(), "etc/app/tls.crt": b"nothing"})
    parts = {"blobs/sha256/aaaa": configuration, "blobs/sha256/bbbb": layer}
    if layout == "archive":
        path = tmp_path / "image.tar"
        path.write_bytes(_tar(parts))
    else:
        path = tmp_path
        for name, content in parts.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
    found = scan_image(path).findings
    assert {each.rule.id for each in found} == {"plaintext-key-in-image"}
    assert any("etc/app/tls.key" in each.place for each in found)
    assert any("configuration" in each.place for each in found)


@given(st.binary(max_size=300), st.sampled_from(["a.pem", "a.p12", "a.key", "a.yaml", ".env"]))
def test_no_bytes_break_the_scanner(content: bytes, name: str) -> None:
    list(judge(Blob(name, content, 0o644)))


@pytest.mark.parametrize("value", [_PEM, _ONE_LINE, _BASE64, _TRADITIONAL])
def test_a_key_in_the_environment_is_refused_by_the_name_of_its_variable(value: str) -> None:
    (found,) = scan_environment({"PATH": "/bin", "TLS_KEY": value}).findings
    assert found.rule.id == "plaintext-key-in-environment"
    with pytest.raises(Refused, match="TLS_KEY") as refusal:
        refuse_keys_in_environment({"TLS_KEY": value})
    assert refusal.value.code == "key-in-environment"
    assert value[40:80] not in str(refusal.value)


def test_encrypted_keys_and_paths_in_the_environment_are_let_be() -> None:
    refuse_keys_in_environment({"TLS_KEY": _LOCKED, "KEY_FILE": "/etc/tls.key", "NOTE": "BEGIN PRIVATE KEY"})


def test_the_server_does_not_start_with_a_key_in_its_environment(tmp_path: Path) -> None:
    environment = {**os.environ, "TLS_KEY": _PEM, "INTAGLIO_DATA_DIR": str(tmp_path)}
    command = [Path(sys.executable).with_name("intaglio"), "serve"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "TLS_KEY" in done.stderr
    assert _PEM.splitlines()[1] not in done.stderr
