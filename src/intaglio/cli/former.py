"""`evactl` and `tsactl`: the commands operators have in their scripts and fingers, said in ours.

Each former command is translated into one or more of ours, which are printed on standard error before they run, so that
whoever reads along learns them. What has no counterpart is refused with the reason and the way that leads there now.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

KEY_TYPES = ("RSA2048", "RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521")

NOT_OFFERED = "Not offered: says what to do instead."

#: One of our command lines, without the name of the program.
Words = list[str]
_Options = argparse.Namespace
_Translation = Callable[[_Options], list[Words]]


class NotOffered(Exception):
    """The former command, or one of its options, has no counterpart; the text says why and what to do."""


@dataclass(frozen=True)
class Former:
    """A former command: its words, what it is for, the options it takes, and how it is said now."""

    words: str
    text: str
    options: tuple[str, ...]
    now: _Translation


def translate(program: str, arguments: Sequence[str]) -> list[Words]:
    """Our command lines for a former one; ``program`` is ``evactl`` or ``tsactl``.

    Ends the process with status 2 for wrong usage, 0 for help, as ``argparse`` does. Raises NotOffered.
    """
    parser = _parser(program)
    options, unknown = parser.parse_known_args(arguments)
    former: Former = options.former
    if unknown and former.text != NOT_OFFERED:
        parser.error(f"{former.words} does not know {' '.join(unknown)}")
    return former.now(options)


def evactl() -> NoReturn:
    """Entry point of `evactl`."""
    sys.exit(_run("evactl", sys.argv[1:]))


def tsactl() -> NoReturn:
    """Entry point of `tsactl`."""
    sys.exit(_run("tsactl", sys.argv[1:]))


def _run(program: str, arguments: Sequence[str]) -> int:
    from intaglio.cli.app import app

    try:
        lines = translate(program, arguments)
    except NotOffered as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failed = []
    for words in lines:
        print("+ intaglio", *words, file=sys.stderr)
        try:
            app(words)
        except SystemExit as ended:
            if ended.code not in (None, 0):
                failed.append((" ".join(words), ended.code if isinstance(ended.code, int) else 1))
    if failed and len(lines) > 1:
        print(f"Failed: {', '.join(words for words, _ in failed)}.", file=sys.stderr)
    return max((status for _, status in failed), default=0)


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        program, description="The former commands, done by `intaglio`, which is printed for each.", allow_abbrev=False
    )
    groups = {"": parser.add_subparsers(metavar="COMMAND", required=True)}
    for former in _COMMANDS[program]:
        group, _, name = former.words.rpartition(" ")
        if group not in groups:
            groups[group] = (
                groups[""].add_parser(group, help="Checks.").add_subparsers(metavar="WHAT", required=True)
            )
        command = groups[group].add_parser(name, help=former.text, description=former.text, allow_abbrev=False)
        for option in former.options:
            _OPTIONS[option](command)
        command.set_defaults(former=former)
    return parser


def _text(flag: str, name: str, text: str, *, required: bool = False) -> Callable[[argparse.ArgumentParser], object]:
    return lambda command: command.add_argument(flag, dest=name, metavar=name.upper(), help=text, required=required)


_OPTIONS: Mapping[str, Callable[[argparse.ArgumentParser], object]] = {
    "type": lambda command: command.add_argument(
        "-k", dest="type", required=True, choices=KEY_TYPES, type=str.upper, help="Type of the key."
    ),
    "key": _text("-k", "key", "Id of the key, from list-keys.", required=True),
    "subject": _text("-s", "subject", "Subject; default: CN= and the key id."),
    "out": _text("-o", "out", "File for the request; default: standard output."),
    "pin": _text("-p", "pin", "Not taken any more: arguments are seen by everybody on this host."),
    "token": _text("-t", "token", "Name of the token; default: no token for keys, all tokens for checks."),
    "vendor": lambda command: command.add_argument(
        "-v", dest="vendor", choices=("none", "nshield", "thales", "pkcs11"), help="Implied by the token now."
    ),
    "level": _text("-l", "level", "Debug level of nShield's client."),
    "ca": _text("-c", "ca", "Not taken here any more: it is kept with the authority."),
    "certificate": _text("-i", "certificate", "Not taken here any more: it is kept with the authority."),
    "yes": lambda command: command.add_argument("-y", "--yes", action="store_true", help="Do not ask."),
    "p12": _text("-f", "file", "PKCS #12 file.", required=True),
    "kmdata": _text("-f", "file", "kmdata folder, exported folder, or tar.gz of it.", required=True),
    "folder-f": _text("-f", "file", "Folder to write to.", required=True),
    "folder-o": _text("-o", "file", "Folder to write to.", required=True),
    "tar": lambda command: command.add_argument("-t", dest="tar", action="store_true", help="As one tar.gz."),
    "package": _text("-d", "package", "Client package (zip) of a cloud service."),
    "certificates": _text("-c", "certificates", "Certificate folder of the client."),
    "chrystoki": _text("-k", "chrystoki", "Chrystoki.conf of the client."),
}


def _create_key(given: _Options) -> list[Words]:
    words = ["key", "create", given.type, *_provider(given), *_option("--subject", given.subject)]
    return [[*words, *_option("--out", given.out)]]


def _create_csr(given: _Options) -> list[Words]:
    _provider(given)
    return [["key", "csr", given.key, *_option("--subject", given.subject), *_option("--out", given.out)]]


def _delete_key(given: _Options) -> list[Words]:
    _provider(given)
    return [["key", "delete", given.key, *(["--yes"] if given.yes else [])]]


def _list_keys(given: _Options) -> list[Words]:
    _provider(given)
    return [["hsm", "objects", given.token]] if given.token else [["key", "list"]]


def _provider(given: _Options) -> Words:
    """Where a key is made. The former tools took the vendor and the PIN with every command."""
    _refuse_pin(given)
    if given.vendor == "none" and given.token:
        raise NotOffered("Vendor `none` means keys without a token: leave out -t.")
    if given.vendor not in (None, "none") and not given.token:
        raise NotOffered("Say which token with -t; `intaglio hsm token list` shows them.")
    return ["--provider", f"pkcs11:{given.token}"] if given.token else []


def _refuse_pin(given: _Options) -> None:
    if given.pin is not None:
        raise NotOffered(
            "A PIN is not taken as an argument, which everybody on this host can read. It is recorded once, sealed: "
            "intaglio hsm token set-pin TOKEN"
        )


def _check_hsm(given: _Options) -> list[Words]:
    _refuse_pin(given)
    words = ["hsm", "check", *([given.token] if given.token else [])]
    return [[*words, *_option("--debug-level", given.level)]]


def _check_all(given: _Options) -> list[Words]:
    _refuse_kept(given)
    return [*_check_hsm(given), ["ocsp", "check", "all", "--no-tokens"]]


def _check_sources(given: _Options) -> list[Words]:
    _refuse_kept(given)
    return [["ocsp", "check", "source"]]


def _refuse_kept(given: _Options) -> None:
    if given.ca is not None or given.certificate is not None:
        raise NotOffered(
            "The CA and the client certificate of a gateway are kept with its authority: "
            "intaglio ocsp authority set NAME"
        )


def _import_luna(given: _Options) -> list[Words]:
    if bool(given.package) == bool(given.certificates or given.chrystoki):
        raise NotOffered("Give either -d, or -c and -k together.")
    if given.package:
        source = ["--package", given.package]
    elif given.certificates and given.chrystoki:
        source = ["--cert-dir", given.certificates, "--chrystoki", given.chrystoki]
    else:
        raise NotOffered("-c and -k belong together.")
    return [["hsm", "import", "--preset", "luna", *source, *(["--yes"] if given.yes else [])]]


def _import_nshield(given: _Options) -> list[Words]:
    return [["hsm", "import", "--preset", "nshield", "--from", given.file, *(["--yes"] if given.yes else [])]]


def _export_nshield(given: _Options) -> list[Words]:
    return [["hsm", "export", "--preset", "nshield", "--out", given.file, *(["--tar"] if given.tar else [])]]


def _import_p12(given: _Options) -> list[Words]:
    if given.pin is not None:
        raise NotOffered(
            "A password is not taken as an argument, which everybody on this host can read. Leave out -p to be asked, "
            "or use: intaglio ocsp credential import FILE --password-file PASSWORD_FILE"
        )
    return [["ocsp", "credential", "import", given.file]]


def _option(name: str, value: str | None) -> Words:
    return [name, value] if value is not None else []


def _just(*words: str) -> _Translation:
    return lambda given: [list(words)]


def _not_offered(reason: str) -> _Translation:
    def refuse(given: _Options) -> list[Words]:
        raise NotOffered(reason)

    return refuse


_STOP = "Services are part of the server here: have it run others only (setting `only` of `intaglio serve`), or {}."
_ENROLL = (
    "An authorization code is not taken as an argument, which everybody on this host can read. Use: intaglio ocsp "
    "credential enroll URL/LABEL --subject SUBJECT --reference REFERENCE --code-file FILE"
)
_REENROLL = "Credentials renew themselves; for one that is to be renewed now: intaglio ocsp credential renew ID"

_KEYS = (
    Former("create-key", "Make a key and a request.", ("type", "subject", "out", "pin", "token", "vendor", "yes"),
           _create_key),
    Former("create-csr", "Make a request over a key.", ("key", "subject", "out", "pin", "token", "vendor", "yes"),
           _create_csr),
    Former("delete-key", "Destroy a key.", ("key", "pin", "token", "vendor", "yes"), _delete_key),
    Former("list-keys", "List keys.", ("pin", "token", "vendor"), _list_keys),
    Former("import-nshield", "Take over the configuration of nShield.", ("kmdata", "yes"), _import_nshield),
    Former("import-thales", "Take over the configuration of Luna.", ("package", "certificates", "chrystoki", "yes"),
           _import_luna),
    Former("check hsm", "Check tokens.", ("level", "pin", "token", "vendor"), _check_hsm),
)  # fmt: skip

_COMMANDS: Mapping[str, tuple[Former, ...]] = {
    "evactl": (
        *_KEYS,
        Former("export-nshield", "Write the configuration of nShield.", ("folder-f", "tar"), _export_nshield),
        Former("check all", "Check tokens, database, sources and signers.",
               ("ca", "certificate", "level", "pin", "token", "vendor"), _check_all),
        Former("check cert-source", "Check the sources.", ("ca", "certificate"), _check_sources),
        Former("check db", "Check the database.", (), _just("ocsp", "check", "db")),
        Former("list-certs", "List client certificates.", (), _just("ocsp", "credential", "list", "--json")),
        Former("import-p12", "Import a client certificate.", ("p12", "pin"), _import_p12),
        Former("enroll", NOT_OFFERED, (), _not_offered(_ENROLL)),
        Former("reenroll", NOT_OFFERED, (), _not_offered(_REENROLL)),
        Former("load-oracle-wallet", NOT_OFFERED, (),
               _not_offered("The database is PostgreSQL; its TLS settings are in INTAGLIO_DATABASE_URL.")),
        Former("stop", NOT_OFFERED, (),
               _not_offered(_STOP.format("stop one: intaglio ocsp authority set NAME --disable"))),
    ),
    "tsactl": (
        *_KEYS,
        Former("export-nshield", "Write the configuration of nShield.", ("folder-o", "tar"), _export_nshield),
        Former("check clock", "Check the clock.", (), _just("tsa", "check", "clock")),
        Former("stop", NOT_OFFERED, (),
               _not_offered(_STOP.format("stop one: intaglio tsa issuer set ISSUER --disable"))),
    ),
}  # fmt: skip
