"""Runs the official Node clients: a script of tests/node beside the packages that ./install.sh test put down."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parent / "node"
_ROOT = Path(__file__).resolve().parent.parent


def run(script: str, patience_s: float = 60.0, **given: Any) -> Any:
    """What tests/node/SCRIPT prints, as JSON; it finds `given`, as JSON, in process.argv[2]. A test that has no
    packages to run fails: what a wire format is proven with is not passed over."""
    folder = Path(os.environ.get("CUSTOMHOUSE_TEST_NODE", _ROOT / ".customhouse/node"))
    if not (folder / "node_modules").is_dir() or shutil.which("node") is None:
        pytest.fail("CUSTOMHOUSE_TEST_NODE names no folder of Node clients; ./install.sh test sets it")
    done = subprocess.run(
        ["node", "--input-type=module", "-", json.dumps(given)],
        input=(SCRIPTS / script).read_text(),  # not its path: what it imports is looked for where it stands
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=patience_s,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
