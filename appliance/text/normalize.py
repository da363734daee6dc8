"""One spelling for many: what a blocklist compares, with the way back to the original's offsets.

A view is the text in a form that terms can be looked for in. Every text has a plain view; only a text that plays with
its letters has others. One pass of RE2 says which disguises are worth undoing, so an ordinary text costs one more.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from appliance.text import romanise
from appliance.text.expressions import Screen
from appliance.text.fold import LOOKALIKES, bared, clusters, composed, folded, is_seen, seen
from appliance.text.view import View, replaced, rewritten

DISGUISES = ("marks", "spacing", "leetspeak", "stretching", "transliteration")
"""What a view can have undone: marks and look-alike letters; letters set apart; signs for letters; letters repeated;
another script's letters, read by their sound. The slightest first."""

_LEET = {ord(sign): letter for sign, letter in zip("0123456789@$€£¡!|+¢§", "oizeasgtbgaseliiitcs", strict=True)}
_LEET_WITH_L = _LEET | {ord(sign): "l" for sign in "1!|"}
_LEET_AT_LETTER = re.compile(r"[0-9@$€£¡!|+¢§][^\W\d_]|[^\W\d_][0-9@$€£¡!|+¢§]")

# what may stand between the words of one term; a single space is left alone, and is what all become
_BETWEEN_WORDS = "_-‐‑‒–—/"
_SPACES = re.compile(" {2,}")
_TOKEN = re.compile(r"\S+")
_LONG_RUN = re.compile(r"([^\W\d_])\1{2,}")
# three or more single letters with signs between them (f.o.o), or with spaces too (f o o, f - o - o)
_DOTTED = re.compile(r"(?<![^\W_])[^\W_](?:[.,_\-*~'·•/|\\]{1,3}[^\W_](?![^\W_])){2,}")
_SPELLED = re.compile(r"(?<![^\W_])[^\W_](?:[\s.,_\-*~'·•/|\\]{1,3}[^\W_](?![^\W_])){2,}")
_AFTER_ARTICLE = re.compile(r"(?<=\b[ai]\s)" + _SPELLED.pattern)  # a f o o: the article is no letter of the word
_SPELLED_LETTERS = re.compile(
    r"(?<![^\W_])[^\W\d_](?:(?:[._\-*]{1,3}[^\W\d_](?![^\W_])){2,}|(?:[\s._\-*]{1,3}[^\W\d_](?![^\W_])){3,})"
)
_STRETCHED = re.compile(r"(?<=[^\W\d_])([a-z])\1{2,}|([a-z])\2{2,}(?=[^\W\d_])")
_SIGN_IN_WORD = re.compile(r"[^\w\s]|_")
# what makes a token of letters and signs an ordinary one: nothing is looked for in it
_CONTRACTED = re.compile(r"[^\W\d_]+n't|i'[md]|[^\W\d_]{2,}'(?:s|m|d|re|ll|ve)")
_COUNTED = re.compile(r"\d[\d.,:]*(?:st|nd|rd|th|s|pm|am|k|m|km|kg|mm|ml|h)")  # 2nd, 90s, 5pm
_LEET_IN_WORD = re.compile(r"(?<=[^\W\d_])[01345@$]{1,2}(?=[^\W\d_])")
_MAIL = re.compile(r"\w@[\w\-]+\.\w")
_EDGES = ".,;:!?\"'()[]{}…“”‘’«»*"

_SIGN = r"[^\pL\pN\pM\s']"
_SCREEN = Screen(
    {
        "between": r"[\s_\-‐‑‒–—/]{2}|[_\-‐‑‒–—/]",
        "spelled": r"(?:^|[^\pL\pN])[\pL\pN](?:[\s.,_\-*~'·•/|\\]{1,3}[\pL\pN]){2}(?:$|[^\pL\pN])",
        # a letter or two by itself between signs; don't, she's and I'm are no disguise
        "signs": rf"(?:^|[^\pL\pN'])[\pL\pN]{_SIGN}+[\pL\pN]|[\pL\pN]{_SIGN}+[\pL\pN](?:$|[^\pL\pN'])"
        rf"|(?:^|\s)[\pL\pN]{{2}}(?:{_SIGN}+[\pL\pN]{{2}})+(?:$|\s)"
        r"|(?:^|[^\pL\pN])[a-hj-z0-9]'[\pL\pN]|[\pL\pN]'[a-ce-ln-ru-z0-9](?:$|[^\pL\pN])"
        r"|[^n\s]'t(?:$|[^\pL\pN])|(?:^|\s)[\pL\pN]{2}'(?:[a-km-qs-uw-z\pN][\pL\pN]|[rv][^e\s]|l[^l\s])(?:$|\s)",
        "leet": r"[0-9@$€£¡!|+¢§]\pL|\pL[0-9@$€£¡|+¢§]",
        "run": "|".join(f"{letter}{{3}}" for letter in "abcdefghijklmnopqrstuvwxyz")
        + r"|[\x{c0}-\x{24f}\x{370}-\x{1fff}\x{3040}-\x{fdff}]{3}",
        "foreign": romanise.SCREEN,
    }
)


def views(text: str) -> list[View]:
    """The plain view, then whatever forms the text's disguises make worth reading, no two alike; last, where they
    differ, the plain one with its hyphens."""
    plain = folded(text)
    suspected = _SCREEN.of(plain.text)
    found: dict[str, View] = {}
    for disguise, form in _forms(plain, suspected):
        if form.text not in found:
            spaced = _spaced(form) if "between" in suspected else form
            found[form.text] = View(spaced.text, spaced.starts, spaced.ends, disguise)
    whole = list(found.values())
    if "between" in suspected and whole[0].text != plain.text:
        whole.append(View(plain.text, plain.starts, plain.ends, is_spaced=False))
    return whole


def _forms(plain: View, suspected: frozenset[str]) -> Iterator[tuple[str, View]]:
    yield "", plain
    bare = bared(plain)
    yield "marks", bare
    if bare is not plain:
        suspected |= _SCREEN.of(bare.text)
    forms = [bare]
    if not suspected.isdisjoint(("spelled", "signs")):
        forms.append(_joined(bare, _SPELLED if "spelled" in suspected else None))
        if "spelled" in suspected and _AFTER_ARTICLE.search(bare.text):
            forms.append(_joined(bare, _AFTER_ARTICLE))
        suspected |= _SCREEN.of(forms[1].text)
        yield from (("spacing", form) for form in forms[1:])
    if "leet" in suspected:
        decoded = [view for form in forms for view in _decoded(form)]
        yield from (("leetspeak", form) for form in decoded)
        forms += decoded[-2:]
    if "run" in suspected:
        for form in _distinct((bare, forms[-1])):
            yield "stretching", _squeezed(form, 1)
            yield "stretching", _squeezed(form, 2)
    if "foreign" in suspected:
        yield "transliteration", romanise.romanised(plain)


def spellings(term: str) -> list[str]:
    """How a blocklist entry is looked for: as it stands, and bared of marks and look-alikes. Empty when nothing is left
    of it."""
    plain = folded(term)
    both = (_spaced(plain).text.strip(), _spaced(bared(plain)).text.strip())
    return [spelling for spelling in dict.fromkeys(both) if spelling]


def undisguised(text: str) -> str:
    """The text for a model to read: invisible characters, look-alikes, spelled-out words and leetspeak undone; an
    ordinary text comes back as it was. Look-alikes are undone only in words that mix alphabets: Russian stays Russian.
    """
    if not text.isascii() or not all(map(is_seen, set(text))):
        text = "".join(seen(composed(text[start:end])) for start, end in clusters(text))
    text = _SPELLED_LETTERS.sub(_together, text)
    text = _STRETCHED.sub(lambda match: match.group()[0], text)
    return _TOKEN.sub(lambda match: _plain_word(match.group()), text)


def _together(match: re.Match[str]) -> str:
    letters = "".join(c for c in match.group() if c.isalpha())
    # an article before a spelled-out word is no letter of it
    if letters[0] in "aAiI" and match.group()[1].isspace() and len(letters) > 3:
        return f"{letters[0]} {letters[1:]}"
    return letters


def _plain_word(word: str) -> str:
    if not word.isascii() and any("a" <= c <= "z" for c in word.lower()):
        latin = word.casefold().translate(LOOKALIKES)
        word = latin if latin.isascii() else word
    return word if _MAIL.search(word) else _LEET_IN_WORD.sub(lambda match: match.group().translate(_LEET), word)


def _odd_tokens(text: str) -> Iterator[tuple[int, str]]:
    """Words that are not of letters only, whatever stands around them, and where they begin."""
    at = 0
    for token in text.split(" "):
        if token and not token.isalpha() and not token.strip(_EDGES).isalpha():
            yield at, token
        at += len(token) + 1


def _decoded(view: View) -> list[View]:
    """Leetspeak read as letters, in words where it touches a letter: with signs that look like an i as i, and as l."""
    tokens = list(_leet_tokens(view.text))
    if not tokens:
        return []
    return [View(_translated(view.text, tokens, table), view.starts, view.ends) for table in (_LEET, _LEET_WITH_L)]


def _translated(text: str, tokens: Iterable[tuple[int, str]], table: Mapping[int, str]) -> str:
    pieces: list[str] = []
    at = 0
    for start, token in tokens:
        pieces += (text[at:start], token.translate(table))
        at = start + len(token)
    return "".join([*pieces, text[at:]])


def _leet_tokens(text: str) -> Iterator[tuple[int, str]]:
    at = 0
    for token in text.split(" "):
        if token and not token.isalpha():
            core = token.strip(_EDGES)  # `great!` ends with no letter
            if _LEET_AT_LETTER.search(core) and not _COUNTED.fullmatch(core):
                yield at + token.index(core), core
        at += len(token) + 1


def _joined(view: View, spelled: re.Pattern[str] | None) -> View:
    """Words spelled letter by letter, or broken up by signs, put together: `f o o`, `f.o.o`, `f*oo`."""
    for pattern in (_DOTTED, spelled) if spelled else ():
        view = replaced(view, pattern, lambda match: "".join(c for c in match.group() if c.isalnum()))
    return rewritten(view, _mended(view.text))


def _mended(text: str) -> Iterable[tuple[int, int, str]]:
    for at, token in _odd_tokens(text):
        if token.isalnum() or _CONTRACTED.fullmatch(token.strip(_EDGES)):
            continue
        pieces = [piece for piece in _SIGN_IN_WORD.split(token) if piece]
        # only where a piece is a single letter or all are tiny: `the end.is near` lacks a space, nothing more
        if len(pieces) > 1 and (any(len(p) == 1 for p in pieces) or all(len(p) == 2 for p in pieces)):
            yield at, at + len(token), "".join(pieces)


def _squeezed(view: View, keep: int) -> View:
    """Letters that stand three times or more in a row, `keep` times instead."""
    return replaced(view, _LONG_RUN, lambda match: match.group(1) * keep)


def _spaced(view: View) -> View:
    """Whatever sets words apart, as one space."""
    text = view.text
    for sign in _BETWEEN_WORDS:
        text = text.replace(sign, " ")
    spaced = View(text, view.starts, view.ends)
    return replaced(spaced, _SPACES, lambda _: " ") if "  " in text else spaced


def _distinct(forms: Iterable[View]) -> Iterable[View]:
    return {form.text: form for form in forms}.values()
