"""Evasion: how much disguise a text wears, and whether a term of the lists was under it."""

import re

from appliance.text.analysis import Result
from appliance.text.analyzers import weighing
from appliance.text.analyzers.weighing import NOTHING
from appliance.text.expressions import Screen
from appliance.text.fold import folded
from appliance.text.reading import Reading

_UNSEEN = (
    r"[\x{ad}\x{34f}\x{61c}\x{115f}\x{1160}\x{17b4}\x{17b5}\x{180e}"
    r"\x{200b}-\x{200f}\x{2060}-\x{2064}\x{3164}\x{feff}\x{ffa0}\x{e0000}-\x{e007f}]"
)
_WESTERN = r"[\p{Latin}\p{Cyrillic}\p{Greek}]"
_STYLED = (
    r"[\x{ff21}-\x{ff3a}\x{ff41}-\x{ff5a}\x{1d400}-\x{1d7ff}\x{24b6}-\x{24e9}"
    r"\x{1f130}-\x{1f149}\x{1f150}-\x{1f189}]"
)
_SIGNS = {
    # a joiner is a letter's own in Arabic or Hindi: only between letters that know none is it a disguise
    "invisible letters": (0.5, rf"{_WESTERN}{_UNSEEN}+{_WESTERN}"),
    "direction override": (0.55, r"[\x{202a}-\x{202e}\x{2066}-\x{2069}].{0,200}\pL"),
    "alphabets mixed": (
        0.55,
        r"[a-zA-Z][\p{Cyrillic}\p{Greek}]\pL|\pL[a-zA-Z][\p{Cyrillic}\p{Greek}]|[\p{Cyrillic}\p{Greek}][a-zA-Z]\pL"
        r"|\pL[\p{Cyrillic}\p{Greek}][a-zA-Z]",
    ),
    "stacked marks": (0.45, r"\pL\p{Mn}{3}"),
    "styled letters": (0.35, rf"{_STYLED}{{3}}"),
    "letters set apart": (
        0.3,
        r"(?:^|[^\pL\pN])[\pL](?:[.,_\-*~'·•/|\\ ]{1,3}\pL){3,}(?:$|[^\pL\pN])",
    ),
    "signs for letters": (0.2, r"(?:^|\s)\pL+[0-9@$€£!|][0-9@$€£!|\pL]*\pL"),
    "letters repeated": (0.05, r"a{4}|e{4}|i{4}|o{4}|u{4}|y{4}|[b-df-hj-np-tv-xz]{12}"),
    "upside down": (0.4, r"[ɐɔǝɟƃɥᴉɾʞɯɹʇʌʍʎ]\pL*[ɐɔǝɟƃɥᴉɾʞɯɹʇʌʍʎ]"),
}
"""Name → how much of a disguise it is by itself, RE2. An abbreviation with dots or a name in fancy letters is none."""
_SCREEN = Screen({name: expression for name, (_, expression) in _SIGNS.items()})
_HIDDEN = 0.35
"""What a term of a list adds that was found only when its disguise was undone."""
# bounded: with \S+ on both sides, ten thousand characters of a@a@a@ took minutes
_ADDRESS = re.compile(r"https?://\S+|[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}|[@#]\w+")


def look(reading: Reading) -> Result:
    phrases = weighing.weigh(reading.of("evasion"))
    hidden = [hit for hit in reading.hits if hit.disguise or _is_styled(reading.text[hit.start : hit.end])]
    text = reading.text
    if "@" in text or "#" in text or "://" in text:
        text = _ADDRESS.sub(" ", text)
    signs = sorted(_SCREEN.of(text.encode("utf-8", "replace").decode()))
    if not hidden and not signs:
        return phrases
    passes = 1.0
    for name in signs:
        passes *= 1.0 - _SIGNS[name][0]
    score = 1.0 - passes
    if hidden:
        gravest = max(weighing.SCORES[hit.entry.severity] for hit in hidden)
        score = min(max(score, 0.3) + _HIDDEN * gravest, 1.0)
    score = max(round(score, 3), phrases.score)
    if not score:
        return NOTHING
    named = dict.fromkeys([*signs, *(hit.entry.term for hit in hidden), *phrases.matched])
    return Result(score, tuple(named))


def _is_styled(piece: str) -> bool:
    """In letters of another width or style, or with something invisible between."""
    return not piece.isascii() and folded(piece).text.isascii()
