"""What the processes wrote."""

from appliance.logs import LEVELS, Book, Entry, View, Wanted
from tui.backend.desk import Desk

__all__ = ["LEVELS", "Book", "Entry", "View", "Wanted", "open_"]


def open_(desk: Desk) -> Book:
    """The book of this house's lines, nothing read yet. Whoever opens it closes it."""
    return Book(desk.settings)
