"""`intaglio keytool advise` and `intaglio keytool password`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from intaglio.cli.commands import Cli, command, noun

app = noun("Which systems understand a choice of algorithms.")
systems_app = noun("The systems whose limits are known.")
password_app = noun("Generate a password.")


@command(
    app,
    "advise",
    example=(
        "intaglio keytool advise --algorithm rsa-4096 --digest sha384 --variant aes-256",
        "intaglio keytool advise --system macos --system java-8",
    ),
    local=True,
)
def advise(
    cli: Cli,
    algorithm: Annotated[str, typer.Option("--algorithm", "-a", help="Key algorithm.")] = "P-256",
    digest: Annotated[str, typer.Option(help="Digest of the signature.")] = "sha256",
    variant: Annotated[str | None, typer.Option(help="Protection of a PKCS #12.")] = None,
    system: Annotated[list[str] | None, typer.Option(help="Only this system; repeat for more.")] = None,
) -> None:
    """Say where a choice of key, digest and PKCS #12 protection will be refused, and what to choose instead."""
    from intaglio.asn1.algorithms import KeyAlgorithm
    from intaglio.mtls.toolkit import advice
    from intaglio.mtls.toolkit.choices import chosen_from
    from intaglio.mtls.toolkit.pkcs12_writer import Variant
    from intaglio.mtls.toolkit.signatures import Digest

    found = advice.advise(
        KeyAlgorithm.parse(algorithm),
        chosen_from(Digest, digest, "--digest"),
        None if variant is None else chosen_from(Variant, variant, "--variant"),
        system or (),
    )
    columns = {"system": "SYSTEM", "problem": "PROBLEM", "instead": "INSTEAD"}
    cli.out.table([asdict(each) for each in found], columns, empty="Every system in the list understands this choice.")
    key, safe_digest, safe_variant = advice.safest(system or ())
    cli.out.note(f"Understood by all of them: {key.value}, {safe_digest.value}, PKCS #12 {safe_variant.value}.")


@command(systems_app, "systems", example="intaglio keytool systems", local=True)
def systems(cli: Cli) -> None:
    """List the systems whose limits are known."""
    from intaglio.mtls.toolkit.advice import SYSTEMS

    rows = [{"name": each.name, "title": each.title, "weakness": each.weakness} for each in SYSTEMS.values()]
    cli.out.table(rows, {"name": "NAME", "title": "SYSTEM", "weakness": "REMARK"})


@command(password_app, "password", example="intaglio keytool password --bits 128", local=True)
def generate(
    cli: Cli,
    bits: Annotated[int, typer.Option(help="Entropy, 64 to 512 bits.")] = 128,
    out: Annotated[str | None, typer.Option("--out", "-o", help="Write it here (mode 0600), do not show it.")] = None,
) -> None:
    """Generate a password."""
    from intaglio.cli.keytool.files import PRIVATE, write_new
    from intaglio.mtls.toolkit import passwords

    value = passwords.generate(bits)
    if out is not None:
        write_new(out, f"{value}\n".encode(), mode=PRIVATE, force=False)
        cli.out.result({"file": out, "bits": bits}, f"Wrote {out}.")
        return
    cli.out.result({"password": value, "bits": bits}, value)
