"""``python -m intaglio.cli`` is the command ``intaglio``."""

from intaglio.cli import main

main()
