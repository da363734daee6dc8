"""How a text is set: shouting, repeated signs, stacked marks, floods of lines, padding that nobody sees."""

import re
from collections import Counter

from appliance.text.analysis import Result
from appliance.text.analyzers.weighing import NOTHING
from appliance.text.reading import Reading

SCORES = {
    "stacked_marks": 0.85,
    "invisible_padding": 0.75,
    "line_flood": 0.75,
    "repeated_lines": 0.7,
    "repeated_letters": 0.5,
    "direction_override": 0.7,
    "shouting": 0.5,
    "repeated_signs": 0.45,
    "repeated_words": 0.7,
    "empty": 0.2,
}
"""What is odd → the score of a text that has it. .7 and more are warned of by the shipped policy: what only shouts is
not."""

_READ = 20_000
_MARKS = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_STACKED = re.compile(f"[{_MARKS}]{{4,}}|(?:.[{_MARKS}]{{3}}){{4,}}")
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u2060-\u2064\u206a-\u206f\u2800\u3164\ufeff\uffa0\U000e0000-\U000e007f]"
)
_OVERRIDE = re.compile("[\u202d\u202e]")
_SIGNS = re.compile(r"([!?])[!?]{4,}|([^\w\s.=\-_*#~])\2{6,}|([.=\-_*#~])\3{30,}")
_LETTERS = re.compile(r"([^\W\d_])\1{9,}")
_RUN = re.compile(r"(\S)\1{4}|[!?]{5}")
_FEW_LETTERS = 100
_CAPITALS = re.compile(r"[A-Z\u00c0-\u00de\u0391-\u03a9\u0410-\u042f]{3}")
_WORDS = re.compile(r"[^\W_]+")
_LINES, _BLANK = 40, 12
_SHOUTED_LETTERS = 12
_SHOUTED_SHARE = 0.7
_SAME_LINES = 5
_SAME_WORDS = 12
_SAME_SHARE = 0.6
_PADDING = 8


def look(reading: Reading) -> Result:
    text = reading.text[:_READ]
    names = [name for name, is_so in _found(text) if is_so]
    if not names:
        return NOTHING
    names.sort(key=lambda name: -SCORES[name])
    return Result(min(round(SCORES[names[0]] + 0.03 * (len(names) - 1), 3), 1.0), tuple(names))


def _found(text: str) -> list[tuple[str, bool]]:
    found = [
        ("shouting", _shouts(text)),
        ("repeated_words", _repeats(text)),
        ("empty", not text.strip()),
    ]
    if _has_run(text):
        found += [
            ("repeated_signs", _SIGNS.search(text) is not None),
            ("repeated_letters", _LETTERS.search(text) is not None),
        ]
    if "\n" in text:
        lines = text.split("\n")
        blank = sum(not line.strip() for line in lines)
        said = Counter(line.strip() for line in lines if len(line.strip()) > 2)
        found += [
            ("line_flood", (blank >= _BLANK and blank * 2 > len(lines)) or _is_tower(lines)),
            ("repeated_lines", bool(said) and said.most_common(1)[0][1] >= _SAME_LINES),
        ]
    if not text.isascii():
        found += [
            ("stacked_marks", _STACKED.search(text) is not None),
            ("invisible_padding", len(_UNSEEN.findall(text)) >= _PADDING),
            ("direction_override", _OVERRIDE.search(text) is not None),
        ]
    return found


def _has_run(text: str) -> bool:
    """Five of one sign in a row. Looking for each sign by itself takes a third of the expression's time."""
    if "!?" in text or "?!" in text:
        return True
    letters = set(text)
    if len(letters) > _FEW_LETTERS:
        return _RUN.search(text) is not None
    return any(letter * 5 in text for letter in letters)


def _shouts(text: str) -> bool:
    """Most letters are capitals, in several words: an acronym does not shout."""
    if _CAPITALS.search(text) is None:
        return False
    capitals = sum(map(str.isupper, text))
    if capitals < _SHOUTED_LETTERS:
        return False
    small = sum(map(str.islower, text))
    return capitals >= _SHOUTED_SHARE * (capitals + small) and sum(len(word) > 2 for word in _WORDS.findall(text)) >= 3


def _repeats(text: str) -> bool:
    """One word over and over."""
    words = text.split()
    if len(words) < _SAME_WORDS or len(set(words)) > (1 - _SAME_SHARE) * len(words) + 1:
        return False
    [(_, most)] = Counter(words).most_common(1)
    return most >= _SAME_SHARE * len(words)


def _is_tower(lines: list[str]) -> bool:
    """Very many lines with next to nothing on them."""
    return len(lines) >= _LINES and sum(map(len, lines)) < 3 * len(lines)
