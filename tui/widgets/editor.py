"""The person's own editor on a text: $VISUAL, else $EDITOR, else what is there."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from textual.app import App, SuspendNotSupported

_THERE = ("sensible-editor", "editor", "nano", "vim", "vi")


class NoEditor(Exception):
    """Says why there is none."""


def command() -> list[str]:
    """What edits; the file's name goes behind it. Raises NoEditor."""
    said = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
    try:
        words = shlex.split(said)
    except ValueError as error:
        raise NoEditor(f"$EDITOR is {said!r}, which is no command: {error}") from error
    if words:
        if shutil.which(words[0]) is None:
            raise NoEditor(f"$EDITOR is {said!r}, and there is no such command")
        return words
    for one in _THERE:
        if shutil.which(one):
            return [one]
    raise NoEditor("There is no editor: name one in $EDITOR")


def edit(app: App[Any], text: str, suffix: str) -> str | None:
    """The text as it was saved; None when nothing is changed. The screen is the editor's meanwhile. Raises NoEditor,
    also where the terminal cannot be handed over (in a browser)."""
    words = command()
    with tempfile.TemporaryDirectory(prefix="customhouse-") as folder:
        path = Path(folder) / f"edit{suffix}"
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        try:
            with app.suspend():
                done = subprocess.run([*words, str(path)], check=False)
        except SuspendNotSupported as error:
            raise NoEditor("This terminal cannot be handed to an editor; use the command line instead") from error
        except OSError as error:
            raise NoEditor(f"{words[0]} cannot be started ({error.strerror})") from error
        if done.returncode != 0:
            raise NoEditor(f"{words[0]} ended with {done.returncode}; nothing is taken over")
        try:
            edited = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise NoEditor(f"What was saved cannot be read: {error}") from error
    return None if edited == text else edited
