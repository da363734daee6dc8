"""Emoji: floods of them, and sequences that say what words may not. Counted as they are seen: a family is one."""

import re
from collections import Counter

from appliance.text.analysis import Result
from appliance.text.analyzers.weighing import NOTHING
from appliance.text.reading import Reading

_READ = 20_000
_PICTURE = (
    "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u25fe\u2600-\u27bf"
    "\u2934\u2935\u2b00-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
)
_AFTER = "\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
_EMOJI = re.compile(
    f"[\U0001f1e6-\U0001f1ff]{{2}}|[{_PICTURE}][{_AFTER}]{{0,12}}(?:\u200d[{_PICTURE}][{_AFTER}]{{0,12}}){{0,8}}|[0-9#*]\ufe0f?\u20e3"
)
_TONE = re.compile(f"[{_AFTER}]")

_FLOOD, _MANY = 25, 10
_SAME = 8

_PARTS = "🍆🍌🥒🌭🍑🍒🍈🐱🌮🍩👅👉👌💦🥵👄🛏🔞"
_SUGGESTIVE = frozenset(
    [
        "🍆💦",
        "🍑💦",
        "🍆🍑",
        "🍑🍆",
        "👉👌",
        "🍌🍩",
        "👅💦",
        "👅🍑",
        "👅🍆",
        "🍆👅",
        "🍑👅",
        "🍆😮",
        "🍌😮",
        "🍆👄",
        "🍌👄",
        "🌭🍩",
        "🐱💦",
        "🍆🌮",
    ]
)
_WEAPONS = "🔫🔪🗡💣🪓🧨⚔"
_VICTIMS = "😵💀☠⚰🪦🩸🤕"
_PEOPLE = "👩👨🧑👧👦👶👵👴👮🕌⛪🕍🏳👳🧕🤰"

SCORES = {
    "explicit_sequence": 0.8,
    "suggestive_sequence": 0.6,
    "threatening_sequence": 0.75,
    "flood": 0.75,
    "repeated": 0.5,
    "many": 0.35,
}


def look(reading: Reading) -> Result:
    if reading.text.isascii():
        return NOTHING
    text = reading.text[:_READ]
    found = [_TONE.sub("", match.group()) for match in _EMOJI.finditer(text)]
    if not found:
        return NOTHING
    names = [*_amounts(found, len(text)), *_sequences(text)]
    if not names:
        return Result(0.05)
    names.sort(key=lambda name: -SCORES[name])
    return Result(SCORES[names[0]], tuple(names))


def _amounts(found: list[str], length: int) -> list[str]:
    [(_, most)] = Counter(found).most_common(1)
    names = ["repeated"] if most >= _SAME else []
    if len(found) >= _FLOOD:
        # thirty in a long letter are no flood
        names.append("flood" if len(found) * 10 >= length else "many")
    elif len(found) >= _MANY:
        names.append("many")
    return names


def _sequences(text: str) -> list[str]:
    """Emoji that stand side by side, spaces apart, and say something together."""
    together = ["".join(_TONE.sub("", one) for one in _EMOJI.findall(run.group())) for run in _RUN.finditer(text)]
    names: list[str] = []
    for run in together:
        pairs = {run[at : at + 2] for at in range(len(run) - 1)}
        kinds = set(run)
        if pairs & _SUGGESTIVE:
            strong = len(kinds & set(_PARTS)) >= 3 or "💦" in kinds
            names.append("explicit_sequence" if strong else "suggestive_sequence")
        if kinds & set(_WEAPONS) and (kinds & set(_VICTIMS) or kinds & set(_PEOPLE)):
            names.append("threatening_sequence")
    return list(dict.fromkeys(names))


_RUN = re.compile(f"(?:(?:{_EMOJI.pattern})[ \u200d]{{0,3}}){{2,40}}")
