"""`intaglio keytool key`: private key files."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.cli.keytool import passwords
from intaglio.cli.keytool.files import PRIVATE, read_key_file, require_free, write_new
from intaglio.cli.keytool.passwords import AcceptWeak, Generate, PasswordFd, PasswordFile, PasswordOut

app = noun("Private key files: generate, change the password.")

Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]
Encryption = Annotated[str, typer.Option(help="Of the file: aes-256, aes-128 or 3des.")]
Iterations = Annotated[int, typer.Option(help="Rounds of PBKDF2 that a guess at the password costs.")]
Form = Annotated[bool, typer.Option("--der", help="Write DER instead of PEM.")]
NoEncryption = Annotated[
    bool, typer.Option("--no-encryption", help="Write the key open. Whoever can read the file has the identity.")
]


@command(
    app,
    "generate",
    example=(
        "intaglio keytool key generate --algorithm rsa-4096 --out client.key",
        "intaglio keytool key generate --algorithm ecdsa-p384 --out client.key --generate-password",
    ),
    local=True,
)
def generate(
    cli: Cli,
    out: Annotated[str, typer.Option("--out", "-o", help="File for the key (mode 0600); - is standard output.")],
    algorithm: Annotated[str, typer.Option("--algorithm", "-a", help="rsa-2048, rsa-4096, P-256, P-384 ...")] = "P-256",
    encryption: Encryption = "aes-256",
    iterations: Iterations = 100_000,
    der: Form = False,
    no_encryption: NoEncryption = False,
    password_file: PasswordFile = None,
    password_fd: PasswordFd = None,
    generate_password: Generate = False,
    password_out: PasswordOut = None,
    accept_weak: AcceptWeak = False,
    force: Force = False,
) -> None:
    """Generate a private key, encrypted as PKCS #8."""
    from intaglio.asn1.algorithms import KeyAlgorithm, generate_private_key

    require_free(out, password_out, force=force)
    chosen = KeyAlgorithm.parse(algorithm)
    given = passwords.Given(password_file, password_fd, generate_password, password_out, accept_weak)
    password = None if no_encryption else passwords.new(cli, f"Password of {out}", given)
    with cli.out.waiting(f"Generating {chosen.value}"):
        key = generate_private_key(chosen)
    _write(cli, out, key, password, encryption, iterations, der=der, force=force)


@command(app, "protect", example="intaglio keytool key protect client.key --out new.key", local=True)
def protect(
    cli: Cli,
    key: Annotated[str, typer.Argument(help="Private key file.")],
    out: Annotated[str, typer.Option("--out", "-o", help="File for the result (mode 0600).")],
    encryption: Encryption = "aes-256",
    iterations: Iterations = 100_000,
    der: Form = False,
    no_encryption: NoEncryption = False,
    old_password_file: Annotated[str | None, typer.Option(help="File with the present password.")] = None,
    old_password_fd: Annotated[int | None, typer.Option(help="Descriptor with the present password.")] = None,
    password_file: PasswordFile = None,
    password_fd: PasswordFd = None,
    generate_password: Generate = False,
    password_out: PasswordOut = None,
    accept_weak: AcceptWeak = False,
    force: Force = False,
) -> None:
    """Write the same key under another password, or in another form."""
    require_free(out, password_out, force=force)
    found = read_private_key(cli, key, old_password_file, old_password_fd)
    given = passwords.Given(password_file, password_fd, generate_password, password_out, accept_weak)
    password = None if no_encryption else passwords.new(cli, f"New password of {out}", given)
    _write(cli, out, found, password, encryption, iterations, der=der, force=force)


def read_private_key(cli: Cli, path: str, password_file: str | None, password_fd: int | None) -> Any:
    """The key in a file; its password is asked for only when it is encrypted."""
    return read_key_and_password(cli, path, password_file, password_fd)[0]


def read_key_and_password(
    cli: Cli, path: str, password_file: str | None, password_fd: int | None
) -> tuple[Any, str | None]:
    """The key and the password that opened it, None for a key that was not encrypted."""
    from intaglio.mtls.toolkit import keys

    data = read_key_file(cli, path)
    if not keys.look_at_key(data).encrypted:
        cli.out.warning(f"{path} is not encrypted: whoever can read the file has the identity.")
        return keys.read_key(data), None
    password = passwords.existing(f"Password of {path}", password_file, password_fd)
    return keys.read_key(data, password), password


def _write(
    cli: Cli,
    out: str,
    key: Any,
    password: passwords.Chosen | None,
    encryption: str,
    iterations: int,
    *,
    der: bool,
    force: bool,
) -> None:
    from intaglio.asn1 import algorithms
    from intaglio.mtls.toolkit import keys, sharing
    from intaglio.mtls.toolkit.choices import chosen_from
    from intaglio.mtls.toolkit.pbe import Encryption as Choice

    protection = chosen_from(Choice, encryption, "--encryption")
    if password is None:
        cli.out.warning("The key is written without encryption.")
    encoded = keys.encode_key(
        key,
        None if password is None else password.value,
        encryption=protection,
        iterations=iterations,
        form="der" if der else "pem",
    )
    write_new(out, encoded, mode=PRIVATE, force=force)
    if out == "-":
        return
    result = {
        "file": out,
        "key_algorithm": algorithms.key_algorithm_of(key).value,
        "encryption": None if password is None else protection.value,
        "spki_pin": sharing.spki_pin(algorithms.spki(key.public_key())),
        "password": password.value if password is not None and password.to_tell else None,
    }
    lines = [f"Wrote {out}: {result['key_algorithm']}, {result['encryption'] or 'not encrypted'}."]
    if result["password"]:
        lines.append(f"Password, shown only now: {result['password']}")
    cli.out.result(result, "\n".join(lines))
