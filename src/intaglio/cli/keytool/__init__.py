"""`intaglio keytool`: keys, requests, certificates and PKCS #12 files, without a server except for signing by a CA."""

from __future__ import annotations

from intaglio.cli import lazy

COMMANDS: lazy.Table = {
    "key": ("keytool.key", "Private key files: generate, change the password."),
    "csr": ("keytool.csr", "Certificate requests."),
    "cert": ("keytool.cert", "Certificates: from a CA, or self-signed."),
    "p12": ("keytool.p12", "PKCS #12 files: make, take apart, change protection."),
    "inspect": ("keytool.look:inspect_app", "Say what a file is, and what is wrong with it."),
    "convert": ("keytool.look:convert_app", "The same content in another container: PEM, DER, P7B."),
    "verify": ("keytool.look:verify_app", "Verify a certificate step by step."),
    "share": ("keytool.look:share_app", "What to give to a partner: certificate, fingerprint, pin."),
    "advise": ("keytool.advise:app", "Which systems understand a choice of algorithms."),
    "systems": ("keytool.advise:systems_app", "The systems whose limits are known."),
    "password": ("keytool.advise:password_app", "Generate a password."),
}

app = lazy.noun(
    COMMANDS,
    "Keys, certificate requests, certificates and PKCS #12 files. Passwords come from a prompt, a file or a file "
    "descriptor, never from the command line. Only `cert --ca` needs a server.",
)
