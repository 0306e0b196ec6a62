"""``python -m bench [FIGURE ...] [--json FILE]``: run benchmarks; exit 1 when one is below its target."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from pathlib import Path

from intaglio.core import clock

FIGURES = {
    "build": "bench.build",
    "issue": "bench.issue",
    "ocsp-cached": "bench.ocsp_cached",
    "ocsp-signed": "bench.ocsp_signed",
    "pkcs11": "bench.tokens",
    "tsa": "bench.timestamps",
    "ocsp-five-million": "bench.ocsp_five_million",
    "million": "bench.million",
    "crl": "bench.crl",
    "crl-import": "bench.crl_import",
    "memory": "bench.memory",
    "start": "bench.start",
    "access": "bench.access",
    "access-nginx": "bench.access_nginx",
    "revocation": "bench.revocation",
    "agent": "bench.agent",
    "enroll-page": "bench.enroll_page",
    "acme": "bench.acme",
    "cmp": "bench.cmp",
    "parse": "bench.parse",
    "est": "bench.est",
    "scep": "bench.scep",
}


def main() -> int:
    """Run the chosen figures (all by default) one after the other, print them, write the JSON."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("figure", nargs="*", choices=[*FIGURES, []], help=f"one or more of: {', '.join(FIGURES)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and raw measurements there")
    arguments = parser.parse_args()
    results = []
    for name in arguments.figure or FIGURES:
        figure = importlib.import_module(FIGURES[name]).measure()
        figure.print()
        sys.stdout.flush()
        results.append(figure)
    if arguments.json:
        report = {
            "at": clock.rfc3339(clock.now()),
            "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
            "figures": [figure.as_json() for figure in results],
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if all(figure.met for figure in results) else 1


if __name__ == "__main__":
    sys.exit(main())
