"""Completes a path that is typed into a field: the right arrow takes what is offered."""

import asyncio
from pathlib import Path

from textual.suggester import Suggester


class Paths(Suggester):
    """Files and folders, the first in order that begins as it was typed; hidden ones only after a dot."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        return await asyncio.to_thread(complete, value)


def complete(value: str) -> str | None:
    """None when nothing begins so, or nothing could be read."""
    if not value or value.endswith("~"):
        return None
    head, slash, start = value.rpartition("/")
    try:
        folder = Path(f"{head}{slash}" or ".").expanduser()
        found = sorted(
            one.name + ("/" if one.is_dir() else "")
            for one in folder.iterdir()
            if one.name.startswith(start) and (start.startswith(".") or not one.name.startswith("."))
        )
    except (OSError, RuntimeError, ValueError):  # no such folder or user, or no path at all
        return None
    return f"{head}{slash}{found[0]}" if found and found[0] != start else None
