"""Passwords on the command line: from a prompt, a file or a descriptor, or generated; never an argument."""

from __future__ import annotations

import getpass
import os
import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from intaglio.cli.commands import Cli
from intaglio.cli.files import read_text
from intaglio.cli.keytool.files import PRIVATE, write_new
from intaglio.core.errors import InvalidInput
from intaglio.mtls.toolkit import passwords

_LONGEST = 4_096

PasswordFile = Annotated[str | None, typer.Option(help="File whose first line is the password.")]
PasswordFd = Annotated[int | None, typer.Option(help="Descriptor from which the password is read, such as 3.")]
Generate = Annotated[bool, typer.Option("--generate-password", help="Make a password, and show it this once.")]
PasswordOut = Annotated[str | None, typer.Option(help="Write the generated password here (mode 0600).")]
AcceptWeak = Annotated[bool, typer.Option("--accept-weak-password", help="Only warn of a password easy to guess.")]


@dataclass(frozen=True)
class Given:
    """Where a password comes from, as given on the command line."""

    file: str | None = None
    fd: int | None = None
    generate: bool = False
    out: str | None = None
    accept_weak: bool = False


@dataclass(frozen=True)
class Chosen:
    """A password, and whether it was generated and must still be told."""

    value: str
    to_tell: bool = False


def existing(prompt: str, file: str | None, fd: int | None) -> str:
    """The password of something that is opened. Raises InvalidInput (``password-missing``)."""
    if file is not None or fd is not None:
        return _given(file, fd)
    if not sys.stdin.isatty():
        raise _missing(prompt)
    return getpass.getpass(f"{prompt}: ")


def new(cli: Cli, prompt: str, given: Given, *, known: tuple[str, ...] = ()) -> Chosen:
    """The password for something that is written: asked for twice, checked, or generated.

    Raises InvalidInput (``password-missing``, ``password-mismatch``, ``password-too-weak``, ``password-source``).
    """
    if sum((given.file is not None, given.fd is not None, given.generate)) > 1:
        raise InvalidInput("The password has several sources.", code="password-source", remedy="Give one of them.")
    if given.generate:
        value = passwords.generate()
        if given.out is not None:
            write_new(given.out, f"{value}\n".encode(), mode=PRIVATE, force=False)
        return Chosen(value, to_tell=given.out is None)
    value = _given(given.file, given.fd) if given.file is not None or given.fd is not None else _twice(prompt)
    if given.accept_weak:
        found = passwords.strength(value, known=known)
        if not found.sufficient:
            cli.out.warning(f"The password is easy to guess (strength {found.score} of 4). {found.advice}".rstrip())
    else:
        passwords.require_strong(value, known=known)
    return Chosen(value)


def same(one: str, other: str) -> bool:
    """Whether two passwords are equal."""
    return passwords.same(one, other)


def _twice(prompt: str) -> str:
    if not sys.stdin.isatty():
        raise _missing(prompt)
    value = getpass.getpass(f"{prompt}: ")
    if getpass.getpass(f"{prompt}, again: ") != value:
        raise InvalidInput("The two entries differ.", code="password-mismatch")
    return value


def _given(file: str | None, fd: int | None) -> str:
    text = read_text(file) if file is not None else _from_descriptor(fd)
    value = text.split("\n", 1)[0].rstrip("\r")
    if not value:
        raise InvalidInput("The password is empty.", code="password-missing")
    return value


def _from_descriptor(fd: int | None) -> str:
    try:
        with os.fdopen(os.dup(fd if fd is not None else -1), "rb") as file:
            return file.read(_LONGEST).decode()
    except (OSError, UnicodeDecodeError):
        raise InvalidInput(
            f"No password can be read from descriptor {fd}.", code="password-missing", remedy="Open it: 3< FILE"
        ) from None


def _missing(prompt: str) -> InvalidInput:
    return InvalidInput(
        f"A password is needed: {prompt}.",
        code="password-missing",
        remedy="Give it in a file (--password-file), on a descriptor (--password-fd), or run on a terminal.",
    )
