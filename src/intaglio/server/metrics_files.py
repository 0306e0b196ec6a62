"""Where the processes of one server share their metrics. Apart from ``metrics``, because it must run before it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # the name is the library's


def prepare(data_dir: Path) -> None:
    """Empty the folder of the previous run, and make metrics made from now on write to it.

    Raises RuntimeError when metrics exist already: they would silently count for one process only.
    """
    if "prometheus_client" in sys.modules:
        raise RuntimeError("prometheus_client was imported before the metrics folder was chosen")
    folder = data_dir / "run" / "metrics"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ[_VARIABLE] = str(folder)
