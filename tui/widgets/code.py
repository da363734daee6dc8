"""A QR code in half blocks: two modules a cell, dark on light whatever the theme, with the quiet zone around."""

import segno
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

QUIET = 4
"""Light modules around it, as the standard has it."""
_LEAST_QUIET = 2
"""That every reader takes; used where four do not fit."""


def modules(text: str, quiet: int = QUIET) -> list[list[bool]]:
    """Dark or light, row by row, the quiet zone included. The lowest correction: a screen has no stains."""
    made = segno.make(text, error="l", boost_error=False, micro=False)
    return [[bool(one) for one in row] for row in made.matrix_iter(border=quiet)]


def size(text: str, quiet: int = QUIET) -> tuple[int, int]:
    """Columns and lines that it takes."""
    side = len(modules(text, quiet))
    return side, -(-side // 2)


class Code(Widget):
    """White on black, said as colours and not as a theme's: a reader has to tell them apart, in light and dark. `fit`
    has to be called once there is a size."""

    DEFAULT_CSS = """
    Code { width: auto; height: auto; }
    """

    def __init__(self, text: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._text = text
        self._rows: list[list[bool]] = []

    def fit(self, columns: int, lines: int) -> bool:
        """Drawn for so much room: with four modules of quiet, or two; is there room at all?"""
        for quiet in (QUIET, _LEAST_QUIET):
            width, height = size(self._text, quiet)
            if width <= columns and height <= lines:
                self._rows = modules(self._text, quiet)
                self.refresh(layout=True)
                return True
        self._rows = []
        self.refresh(layout=True)
        return False

    def get_content_width(self, container: Size, viewport: Size) -> int:
        return len(self._rows)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return -(-len(self._rows) // 2)

    def render_line(self, y: int) -> Strip:
        if 2 * y >= len(self._rows):
            return Strip.blank(self.size.width, self.rich_style)
        upper = self._rows[2 * y]
        lower = self._rows[2 * y + 1] if 2 * y + 1 < len(self._rows) else [False] * len(upper)
        letters = "".join(_LETTERS[top, bottom] for top, bottom in zip(upper, lower, strict=True))
        return Strip([Segment(letters, _STYLE)], len(letters))


_STYLE = Style(color="#ffffff", bgcolor="#000000", bold=False)
_LETTERS = {(True, True): " ", (False, True): "▀", (True, False): "▄", (False, False): "█"}
"""(upper is dark, lower is dark): the letters are the light, so that it is one too where there are no colours."""
