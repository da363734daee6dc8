"""Words that others wrote, made fit for one line of a terminal: what could steer it, or turn letters round, is out."""

import re
import unicodedata
from functools import lru_cache

from rich.cells import cell_len, set_cell_size
from rich.text import Text

_PLAIN = re.compile(r"[ -~]*")
_BREAKS = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
_LONGEST = 4096
"""Characters of a cell that are looked at; nobody's terminal is wider."""


def clean(text: str) -> str:
    """On one line, without control characters, escape sequences' ESC, bidi overrides, invisible characters and lone
    surrogates. Wide characters and accents stay."""
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    if _PLAIN.fullmatch(text):
        return text
    return "".join(map(_safe, _BREAKS.sub(" ", text)))


def clean_lines(text: str) -> str:
    """The same for what may have several lines; tabs become spaces."""
    return "\n".join(clean(line) for line in text.replace("\t", "    ").splitlines())


@lru_cache(4096)
def _safe(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cc", "Cs"):
        return "\ufffd"
    # not drawn at all: format characters (bidi overrides, zero-width joiners, tags), variation selectors
    if category == "Cf" or "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef":
        return ""
    return character


def fit(text: str, room: int, *, to_right: bool = False) -> str:
    """Exactly `room` columns of it: padded, or ended by an ellipsis. A wide character is never cut in two."""
    length = len(text) if text.isascii() else cell_len(text)
    if length <= room:
        pad = " " * (room - length)
        return pad + text if to_right else text + pad
    return set_cell_size(text, room - 1) + "…" if room > 0 else ""


def cleaned(cell: str | Text) -> str | Text:
    """A cell, safe. A Text is the program's own, but what stands in it may be somebody's."""
    if isinstance(cell, str):
        return clean(cell)
    if _PLAIN.fullmatch(cell.plain):
        return cell
    made = Text(no_wrap=True, end="")
    for part in cell.divide(range(1, len(cell.plain))):
        part.plain = clean(part.plain)
        made.append_text(part)
    return made
