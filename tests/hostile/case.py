"""One hostile file, and what may come of it."""

from collections.abc import Callable
from typing import Literal, NamedTuple

Kind = Literal["image", "video"]

REFUSED = "refused"
EITHER = "either"


class Case(NamedTuple):
    """`make` gives the bytes; a bomb is made when its turn comes, so that they do not lie in memory together."""

    name: str
    kind: Kind
    make: Callable[[], bytes]
    expected: str = REFUSED
    """`either`: a decoder may show something of it, or say what is wrong."""
    says: str = ""
    """What the refusal must say, as a pattern."""
