"""The pages' own tests, and what a package of Intaglio carries of them."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_WEB = _ROOT / "web"


def test_the_pages_pass_their_own_tests() -> None:
    shell = ["bash", "-euo", "pipefail", "-c"]
    commands = "source scripts/lib/environment.sh; source scripts/lib/web.sh; npm_web test"
    done = subprocess.run([*shell, commands], cwd=_ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_package_contains_the_enrolment_page(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=_ROOT, check=True, capture_output=True, timeout=240)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = wheel.namelist()
    pages = [name.removeprefix("intaglio/console/static/enroll/") for name in names if "console/static/" in name]
    assert {"index.html", "seal.svg"} <= set(pages)
    assert any(name.startswith("assets/") and name.endswith(".js") for name in pages)
    assert not any("node_modules" in name for name in names)


@pytest.mark.parametrize("name", ["package-lock.json", ".npmrc"])
def test_nothing_says_where_packages_are_fetched_from(name: str) -> None:
    assert "registry" not in (_WEB / name).read_text().replace("omit-lockfile-registry-resolved", "")


def test_every_package_is_pinned_by_its_digest() -> None:
    packages = json.loads((_WEB / "package-lock.json").read_text())["packages"]
    fetched = {path: entry for path, entry in packages.items() if "node_modules/" in path and not entry.get("link")}
    assert len(fetched) > 50
    assert [path for path, entry in fetched.items() if "integrity" not in entry and not entry.get("inBundle")] == []
