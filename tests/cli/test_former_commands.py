"""The commands of former tools: what they become, and what they refuse."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.main import get_command

from intaglio.cli import former, lazy
from intaglio.cli.app import app
from intaglio.cli.former import NotOffered, translate


@pytest.mark.parametrize(
    ("program", "given", "now"),
    [
        ("evactl", "create-key -k ECDSAP256 -t main", ["key create ECDSAP256 --provider pkcs11:main"]),
        ("evactl", "create-key -k rsa2048 -v none -y", ["key create RSA2048"]),
        ("tsactl", "create-key -k RSA4096 -s CN=x -o x.csr", ["key create RSA4096 --subject CN=x --out x.csr"]),
        ("tsactl", "create-csr -k 1234 -o -", ["key csr 1234 --out -"]),
        ("evactl", "delete-key -k 1234 -y", ["key delete 1234 --yes"]),
        ("evactl", "delete-key -k 1234", ["key delete 1234"]),
        ("evactl", "list-keys", ["key list"]),
        ("evactl", "list-keys -t main -v nshield", ["hsm objects main"]),
        ("evactl", "list-certs", ["ocsp credential list --json"]),
        ("evactl", "import-p12 -f client.p12", ["ocsp credential import client.p12"]),
        ("evactl", "check all -l 3 -t main", ["hsm check main --debug-level 3", "ocsp check all --no-tokens"]),
        ("evactl", "check cert-source", ["ocsp check source"]),
        ("evactl", "check db", ["ocsp check db"]),
        ("evactl", "check hsm", ["hsm check"]),
        ("tsactl", "check hsm -t main -v thales", ["hsm check main"]),
        ("tsactl", "check clock", ["tsa check clock"]),
        ("evactl", "import-nshield -f kmdata -y", ["hsm import --preset nshield --from kmdata --yes"]),
        ("evactl", "export-nshield -f safe -t", ["hsm export --preset nshield --out safe --tar"]),
        ("tsactl", "export-nshield -o safe", ["hsm export --preset nshield --out safe"]),
        ("tsactl", "import-thales -d setup.zip", ["hsm import --preset luna --package setup.zip"]),
        ("evactl", "import-thales -c cert -k C.conf", ["hsm import --preset luna --cert-dir cert --chrystoki C.conf"]),
    ],
)
def test_a_former_command_is_said_in_ours(program: str, given: str, now: list[str]) -> None:
    assert [" ".join(words) for words in translate(program, given.split())] == now


@pytest.mark.parametrize(
    ("program", "given", "advice"),
    [
        ("evactl", "create-key -k RSA2048 -p 1234", "set-pin"),
        ("evactl", "check hsm -p 1234", "set-pin"),
        ("evactl", "import-p12 -f x.p12 -p secret", "--password-file"),
        ("evactl", "create-key -k RSA2048 -v nshield", "-t"),
        ("evactl", "create-key -k RSA2048 -v none -t main", "leave out -t"),
        ("evactl", "import-thales -d setup.zip -c cert -k C.conf", "either"),
        ("evactl", "import-thales", "either"),
        ("evactl", "import-thales -c cert", "together"),
        ("evactl", "check all -c ca.pem", "authority set"),
        ("evactl", "enroll -a code -r 17 -u https://x -l label", "credential enroll"),
            ("evactl", "reenroll -l label -u https://x", "credential renew"),
        ("evactl", "load-oracle-wallet -f wallet", "PostgreSQL"),
        ("evactl", "stop", "intaglio serve"),
        ("tsactl", "stop", "tsa issuer set"),
    ],
)
def test_what_has_no_counterpart_says_what_to_do(program: str, given: str, advice: str) -> None:
    with pytest.raises(NotOffered) as refused:
        translate(program, given.split())
    assert advice in str(refused.value)
    assert "1234" not in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("given", ["", "create-key", "create-key -k DSA1024", "frobnicate", "create-csr -k"])
def test_wrong_usage_ends_with_status_two(given: str) -> None:
    with pytest.raises(SystemExit) as ended:
        translate("evactl", given.split())
    assert ended.value.code == 2


def _required(option: str) -> list[str]:
    """Something for every option that a former command cannot do without."""
    return {
        "type": ["-k", "RSA2048"], "key": ["-k", "x"], "p12": ["-f", "x"], "kmdata": ["-f", "x"],
        "folder-f": ["-f", "x"], "folder-o": ["-o", "x"], "package": ["-d", "x"],
    }.get(option, [])  # fmt: skip


@pytest.mark.parametrize("program", ["evactl", "tsactl"])
def test_every_translation_names_commands_and_options_that_exist(program: str) -> None:
    for each in former._COMMANDS[program]:
        given = [*each.words.split(), *(word for option in each.options for word in _required(option))]
        try:
            lines = translate(program, given)
        except NotOffered:
            assert each.text == former.NOT_OFFERED
            continue
        for words in lines:
            command, rest = get_command(app), list(words)
            while found := lazy.children(command):
                command = found[rest.pop(0)]
            known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
            # --json and its like are taken anywhere.
            assert {word for word in rest if word.startswith("--")} <= known | {"--json"}, words


def test_the_command_that_is_run_is_said_and_its_status_returned(tmp_path: object) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", "from intaglio.cli.former import evactl; evactl()", "list-keys"],
        capture_output=True, text=True, timeout=60, check=False,
        env={"INTAGLIO_DATA_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert ran.stderr.startswith("+ intaglio key list\n")
    assert ran.returncode == 1, ran.stderr  # there is no server


def test_several_commands_end_with_one_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(words: list[str]) -> None:
        raise SystemExit(1 if words[0] == "hsm" else 0)

    monkeypatch.setattr("intaglio.cli.app.app", run)
    monkeypatch.setattr(sys, "argv", ["evactl", "check", "all"])
    with pytest.raises(SystemExit) as ended:
        former.evactl()
    assert ended.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1] == "Failed: hsm check."
