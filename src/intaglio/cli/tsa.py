"""`intaglio tsa`: timestamps, those who give them, and the clock behind them."""

from __future__ import annotations

from intaglio.cli import lazy

COMMANDS: lazy.Table = {
    "issuer": ("tsa_issuer", "Timestamp issuers: endpoints with their policy and certificate."),
    "check": ("tsa_check", "Check the clock and the keys."),
    "url": ("tsa_client:url", "Say where timestamps of an issuer are asked for."),
    "stamp": ("tsa_client:stamp", "Have a file timestamped."),
    "verify": ("tsa_client:verify", "Verify the timestamp of a file."),
}

app = lazy.noun(
    COMMANDS,
    "Timestamps (RFC 3161): issuers and their certificates, the clock, stamping and verifying files.",
)
