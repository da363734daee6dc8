"""Golden files: what was once read by a person and called right. `python -m tests --golden` records anew."""

import json
import os
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "golden"


def check(name: str, text: str) -> None:
    """`text` is what the file of that name holds. While recording, it is written there instead: read the diff."""
    path = FOLDER / name
    if os.environ.get("CUSTOMHOUSE_TEST_GOLDEN"):
        path.write_text(text)
        return
    assert path.exists(), f"{path} is missing; record it: python -m tests --golden"
    assert text == path.read_text(), f"{name} differs; if that is meant: python -m tests --golden, and read the diff"


def pretty(document: Any) -> str:
    """JSON with its keys in the order in which they were sent."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
