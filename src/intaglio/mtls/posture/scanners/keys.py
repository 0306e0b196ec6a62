"""Looks for private keys that lie open: in files, environment files, Kubernetes secrets, images and git's history."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from intaglio.core.errors import IntaglioError, Refused
from intaglio.mtls.posture.scanners import kubernetes, trees
from intaglio.mtls.posture.scanners.findings import Finding, Limits, Report, Rule, Severity, with_waivers
from intaglio.mtls.posture.scanners.trees import Blob, is_binary, scanned
from intaglio.mtls.toolkit import keys as key_files
from intaglio.mtls.toolkit.pkcs12_reader import look_at_pkcs12

_STORE = "Keep it in a secrets manager, an HSM or an encrypted file, and replace the key: it must count as known."
PLAIN = Rule("plaintext-key", "A private key without encryption in a file", _STORE)
SECRET = Rule("plaintext-key-in-secret", "A private key in a Kubernetes object", f"{_STORE} A Secret is only base64.")
ENVIRONMENT = Rule("plaintext-key-in-environment", "A private key in an environment variable", _STORE)
HISTORY = Rule("plaintext-key-in-history", "A private key in the history of a repository", _STORE)
IMAGE = Rule("plaintext-key-in-image", "A private key in a container image", _STORE)
MODE = Rule("key-file-mode", "A private key file that others may read", "Run: chmod 600 FILE.", Severity.WARNING)
UNPROTECTED_P12 = Rule("pkcs12-unprotected", "A PKCS #12 file whose key is not encrypted", _STORE)

RULES = (PLAIN, SECRET, ENVIRONMENT, HISTORY, IMAGE, MODE, UNPROTECTED_P12)

_BEGIN = re.compile(
    rb"-----BEGIN ((?:RSA |EC |DSA |OPENSSH |ENCRYPTED )?PRIVATE KEY)-----((?:\\[rn]|[A-Za-z0-9+/=\s:,.\-]){40,16384}?)"
    rb"-----END \1-----"
)
#: Base64 of "-----BEGIN ": how keys travel in environment variables and configuration.
_ENCODED = re.compile(rb"LS0tLS1CRUdJTi[A-Za-z0-9+/]{60,32768}={0,2}")
_ENVIRONMENT_NAMES = re.compile(r"(?:^|/)(?:\.env(?:\.[\w.-]+)?|[\w.-]+\.env|environment|environ)$")
_ASSIGNMENT = re.compile(rb"^\s*(?:export\s+|ENV\s+|ARG\s+|-\s*)?[A-Za-z_][A-Za-z0-9_]{0,80}\s*[=: ]\s*[\"']?$")
_DER_NAMES = (".key", ".der", ".p8", ".pk8", ".pkcs8")
_P12_NAMES = (".p12", ".pfx")
_YAML = (".yml", ".yaml", ".json")
_SMALLEST_KEY = 40


def scan_keys(root: Path, *, limits: Limits = Limits(), gitignore: bool = False) -> Report:
    """Open private keys in the files below ``root``, and key files with a lax mode. Raises as ``trees.files``."""
    return scanned(trees.files(root, limits, gitignore=gitignore), judge, limits)


def scan_history(root: Path, *, limits: Limits = Limits()) -> Report:
    """Open private keys in every version of every file git has. Raises InvalidInput (``not-a-repository``)."""
    return scanned(trees.history(root, limits), lambda blob: _as(HISTORY, judge(blob)), limits)


def scan_image(path: Path, *, limits: Limits = Limits()) -> Report:
    """Open private keys in the layers and the configuration of a container image. Raises ``image-unreadable``."""
    return scanned(trees.image(path, limits), lambda blob: _as(IMAGE, judge(blob)), limits)


def scan_environment(variables: Mapping[str, str], *, place: str = "environment") -> Report:
    """Open private keys in environment variables, which every child process and a glance at /proc can see."""
    report = Report(files=len(variables))
    for name, value in sorted(variables.items()):
        if (kind := _open_key_in_text(value)) is not None:
            report.findings.append(Finding(ENVIRONMENT, f"{place} {name}", kind))
    return report


def refuse_keys_in_environment(variables: Mapping[str, str]) -> None:
    """Raise Refused (``key-in-environment``) naming the variables that hold an open private key."""
    found = [each.place.removeprefix("environment ") for each in scan_environment(variables).findings]
    if found:
        raise Refused(
            f"A private key lies open in the environment: {', '.join(found)}.",
            code="key-in-environment",
            remedy="Put it into a file with mode 0600, encrypted, or a keystore, and name the file.",
        )


def judge(blob: Blob) -> Iterator[Finding]:
    """Findings in one file."""
    if is_binary(blob.content) or blob.content[:1] == b"\x30":
        yield from _binary(blob)
        return
    text = blob.content.decode("utf-8", "replace") if b"scan:" in blob.content else ""
    yield from with_waivers(_textual(blob), text)


def _as(rule: Rule, findings: Iterator[Finding]) -> Iterator[Finding]:
    """The findings under the rule of the place they were found in; modes mean nothing there."""
    for each in findings:
        if each.rule is not MODE:
            yield Finding(rule, each.place, each.text, each.line, each.column, each.waived)


def _textual(blob: Blob) -> Iterator[Finding]:
    content = blob.content
    inside_object = set()
    if blob.place.endswith(_YAML):
        for line, what, value in kubernetes.secrets(content.decode("utf-8", "replace")):
            if (found := _open_key_in(value)) is not None:
                inside_object.add(value.strip()[:64])
                yield Finding(SECRET, blob.place, f"{found} in {what}", line, 1)
    for position, kind, value in _open_keys(content):
        if value.strip()[:64] in inside_object:
            continue
        line = content.count(b"\n", 0, position) + 1
        begin = content.rfind(b"\n", 0, position) + 1
        before = content[begin:position]
        rule = ENVIRONMENT if _is_environment(blob.place, before) else PLAIN
        yield Finding(rule, blob.place, kind, line, position - begin + 1)
        if rule is PLAIN and not before.strip() and blob.mode is not None and blob.mode & 0o077:
            yield Finding(MODE, blob.place, f"mode {blob.mode:04o}", line, 1)


def _is_environment(place: str, before: bytes) -> bool:
    named = _ENVIRONMENT_NAMES.search(place) or PurePosixPath(place).name.startswith(("Dockerfile", "Containerfile"))
    if named and before.strip():
        return True
    in_configuration = place.endswith("(configuration)")
    return in_configuration or (place.endswith((".sh", ".envrc")) and _ASSIGNMENT.match(before) is not None)


def _open_keys(content: bytes) -> Iterator[tuple[int, str, bytes]]:
    """(offset, what, the whole text) of every private key without encryption, in PEM or in base64 of PEM."""
    if b"PRIVATE KEY-----" in content:
        for match in _BEGIN.finditer(content):
            if (kind := _is_open(match[1], match[2])) is not None:
                yield match.start(), kind, match[0]
    if b"LS0tLS1CRUdJTi" in content:
        for match in _ENCODED.finditer(content):
            decoded = _decoded(match[0])
            if (kind := _open_key_in(decoded)) is not None:
                yield match.start(), f"{kind} (base64)", decoded


def _open_key_in_text(value: str) -> str | None:
    content = value.encode("utf-8", "surrogateescape")
    return next((kind for _, kind, _ in _open_keys(content)), None)


def _open_key_in(content: bytes) -> str | None:
    return next((kind for _, kind, _ in _open_keys(content)), None) if b"PRIVATE KEY" in content else None


def _is_open(label: bytes, body: bytes) -> str | None:
    """What kind of unencrypted key the body of a PEM block is; None for an encrypted one or for a placeholder."""
    if label == b"ENCRYPTED PRIVATE KEY" or b"ENCRYPTED" in body:
        return None
    data = _decoded(re.sub(rb"\\[rn]|\s", b"", body))
    if label == b"OPENSSH PRIVATE KEY":
        # openssh-key-v1: magic, cipher name as a string (PROTOCOL.key)
        return "OPENSSH PRIVATE KEY" if data[:15] == b"openssh-key-v1\x00" and data[19:23] == b"none" else None
    if len(data) < _SMALLEST_KEY or data[:1] != b"\x30":
        return None
    return label.decode("ascii")


def _binary(blob: Blob) -> Iterator[Finding]:
    if blob.place.endswith(_P12_NAMES):
        yield from _p12(blob)
    elif blob.place.endswith(_DER_NAMES):
        try:
            if key_files.look_at_key(blob.content).encrypted:
                return
            key_files.open_key(key_files.look_at_key(blob.content), None)
        except IntaglioError:
            return
        yield Finding(PLAIN, blob.place, "private key in DER", None)
        yield from _mode(blob)


def _p12(blob: Blob) -> Iterator[Finding]:
    try:
        structure = look_at_pkcs12(blob.content)
    except IntaglioError:
        return
    if not structure.key_encryptions and all(part.identifier is None for part in structure.parts):
        yield Finding(UNPROTECTED_P12, blob.place, "nothing in it is encrypted", None)
    yield from _mode(blob)


def _mode(blob: Blob) -> Iterator[Finding]:
    if blob.mode is not None and blob.mode & 0o077:
        yield Finding(MODE, blob.place, f"mode {blob.mode:04o}", None)


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""
