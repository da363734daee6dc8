"""Dark, light, the terminal's own sixteen colours, and none at all. What is seen never rests on colour alone."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    name: str
    """In tui.toml, and in the palette."""
    theme: str
    """Textual's."""
    tells: str
    is_colourless: bool = False


LOOKS = (
    Look("dark", "textual-dark", "Light letters on dark, in 24-bit colour."),
    Look("light", "textual-light", "Dark letters on light, in 24-bit colour."),
    Look("ansi", "ansi-dark", "The terminal's own 16 colours on its own background."),
    Look("none", "ansi-dark", "No colour: bold, reverse and words only.", is_colourless=True),
)
BY_NAME = {one.name: one for one in LOOKS}
