"""What the processes wrote."""

import json

from appliance.logs import LEVELS, Book, Entry, View, Wanted, said_as_json
from tui.backend.desk import Desk

__all__ = ["LEVELS", "Book", "Entry", "View", "Wanted", "as_json", "open_"]


def open_(desk: Desk) -> Book:
    """The book of this house's lines, nothing read yet. Whoever opens it closes it."""
    return Book(desk.settings)


def as_json(entry: Entry) -> str:
    """The line as a command prints it."""
    return json.dumps(said_as_json([entry])[0])
