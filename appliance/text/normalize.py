"""One spelling for many: what a blocklist compares, with the way back to the original's offsets.

A view is the text in a form that terms can be looked for in. Every text has a plain view; only a text that plays with
its letters has others, so an ordinary prompt costs one pass.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping

import msgspec

# Letters that look like Latin ones. NFKC has already folded full-width, mathematical, circled and superscript letters,
# and casefold the capitals, so only small letters are needed here. A table of our own rather than the 6 thousand of
# confusable-homoglyphs, which also folds rn to m and l to 1: those are real words.
_LOOKALIKES = str.maketrans(
    {
        **dict(zip("абвгԁезікӏмнорԛѕтυԝхуіјһ", "abbrdeeiklmhopqstuwxyijh", strict=True)),  # Cyrillic
        **dict(zip("αβγεηικνορτυχωϲϳ", "abyenikvoptuxwcj", strict=True)),  # Greek
        **dict(zip("օսոհցգքւյզ", "ounhggquhq", strict=True)),  # Armenian
        **dict(zip("ıɑɡɩʟɴʀʏᴀʙᴄᴅᴇɢʜɪᴊᴋᴍᴏᴘꜱᴛᴜᴠᴡᴢ", "iagilnryabcdeghijkmopstuvwz", strict=True)),  # phonetic
        **dict(zip("øłđħŧɓƒ", "oldhtbf", strict=True)),  # NFD takes marks off, but not strokes
        **dict(zip("🅰🅱🅾🅿", "abop", strict=True)),
    }
)
_LEET = {ord(sign): letter for sign, letter in zip("0123456789@$€£¡!|+¢§", "oizeasgtbgaseliiitcs", strict=True)}
_LEET_WITH_L = _LEET | {ord(sign): "l" for sign in "1!|"}
_LEET_AT_LETTER = re.compile(r"[0-9@$€£¡!|+¢§][^\W\d_]|[^\W\d_][0-9@$€£¡!|+¢§]")

_UNSEEN = frozenset("\u034f\u115f\u1160\u3164\uffa0") | {chr(c) for c in (*range(0xFE00, 0xFE10), 0x20E3)}
"""Letters and marks that show nothing: fillers, variation selectors, the key cap."""
_UNSEEN_KINDS = ("Cf", "Cc", "Cn", "Co", "Cs")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")

# what may stand between the words of one term; a single space is left alone, and is what all become
_BETWEEN_WORDS = re.compile(r"[\s_\-‐‑‒–—/]{2,}|[^\S ]|[_\-‐‑‒–—/]")
_TOKEN = re.compile(r"\S+")
_SIGN_AT_LETTER = re.compile(r"[^\W_](?:_+|[^\w\s]+)[^\W_]")
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
_LEET_IN_WORD = re.compile(r"(?<=[^\W\d_])[01345@$]{1,2}(?=[^\W\d_])")
_MAIL = re.compile(r"\w@[\w\-]+\.\w")

_KEPT = "ñ"  # Spanish año and ano are different words, and one of them is on many lists


DISGUISES = ("marks", "spacing", "leetspeak", "stretching")
"""What a view can have undone: marks and look-alike letters; letters set apart; signs for letters; letters repeated."""


class View(msgspec.Struct, frozen=True):
    """A form of the text; character i stands for [starts[i], ends[i]) of the original."""

    text: str
    starts: list[int] | range
    ends: list[int] | range
    disguise: str = ""
    """What was undone to get here, one of DISGUISES; empty: nothing but case, width and what cannot be seen."""

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Offsets in the original of [start, end) here."""
        return self.starts[start], self.ends[end - 1]


def views(text: str) -> list[View]:
    """The plain view, then whatever forms the text's disguises make worth reading; no two alike."""
    folded = _folded(text)
    bare = _bared(folded)
    joined = [_joined(bare, _SPELLED)]
    if _AFTER_ARTICLE.search(bare.text):
        joined.append(_joined(bare, _AFTER_ARTICLE))
    forms = {"": [folded], "marks": [bare], "spacing": joined, "leetspeak": [], "stretching": []}
    for form in (bare, *joined):
        if _LEET_AT_LETTER.search(form.text):
            forms["leetspeak"] += [_decoded(form, _LEET), _decoded(form, _LEET_WITH_L)]
    if _LONG_RUN.search(bare.text):
        forms["stretching"] = [_squeezed(bare, 1), _squeezed(bare, 2)]
    found: dict[str, View] = {}
    for disguise, those in forms.items():
        for form in those:
            if form.text not in found:
                spaced = _spaced(form)
                found[form.text] = View(spaced.text, spaced.starts, spaced.ends, disguise)
    return list(found.values())


def spellings(term: str) -> list[str]:
    """How a blocklist entry is looked for: as it stands, and bared of marks and look-alikes. Empty when nothing is left
    of it."""
    folded = _folded(term)
    both = (_spaced(folded).text.strip(), _spaced(_bared(folded)).text.strip())
    return [spelling for spelling in dict.fromkeys(both) if spelling]


def undisguised(text: str) -> str:
    """The text for a model to read: invisible characters, look-alikes, spelled-out words and leetspeak undone; an
    ordinary text comes back as it was. Look-alikes are undone only in words that mix alphabets: Russian stays Russian.
    """
    if not text.isascii() or _CONTROL.search(text):
        text = "".join(_seen(unicodedata.normalize("NFKC", text[start:end])) for start, end in _clusters(text))
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
        latin = word.casefold().translate(_LOOKALIKES)
        word = latin if latin.isascii() else word
    return word if _MAIL.search(word) else _LEET_IN_WORD.sub(lambda match: match.group().translate(_LEET), word)


def _folded(text: str) -> View:
    """NFKC, case folded, what cannot be seen left out."""
    if text.isascii() and not _CONTROL.search(text):
        return View(text.lower(), range(len(text)), range(1, len(text) + 1))
    letters: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for start, end in _clusters(text):
        for letter in _fold_one(text[start:end]):
            letters.append(letter)
            starts.append(start)
            ends.append(end)
    return View("".join(letters), starts, ends)


def _clusters(text: str) -> Iterable[tuple[int, int]]:
    """Each character with the marks that belong to it, so that composing them loses no offset."""
    start = 0
    for index in range(1, len(text)):
        if text[index] < "\u0300" or not unicodedata.combining(text[index]):
            yield start, index
            start = index
    if text:
        yield start, len(text)


def _fold_one(cluster: str) -> str:
    if len(cluster) == 1 and cluster < "\x7f":
        return _seen(cluster.lower())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", cluster).casefold())
    return _seen(folded)


def _seen(text: str) -> str:
    return "".join(
        c for c in text if c.isspace() or (unicodedata.category(c) not in _UNSEEN_KINDS and c not in _UNSEEN)
    )


def _bared(view: View) -> View:
    """Without marks on letters, and look-alikes as the Latin letters they look like."""
    if view.text.isascii():
        return view
    letters: list[str] = []
    kept: list[int] = []
    for index, letter in enumerate(view.text.translate(_LOOKALIKES)):
        if ord(letter) > 127:
            if unicodedata.category(letter) == "Mn":
                continue
            if letter not in _KEPT:
                letter = unicodedata.normalize("NFD", letter)[0].translate(_LOOKALIKES)
        letters.append(letter)
        kept.append(index)
    return View("".join(letters), [view.starts[i] for i in kept], [view.ends[i] for i in kept])


def _decoded(view: View, table: Mapping[int, str]) -> View:
    """Leetspeak read as letters, in words where it touches a letter."""

    def decode(match: re.Match[str]) -> str:
        word = match.group()
        return word.translate(table) if _LEET_AT_LETTER.search(word) else word

    return View(_TOKEN.sub(decode, view.text), view.starts, view.ends)


def _joined(view: View, spelled: re.Pattern[str]) -> View:
    """Words spelled letter by letter, or broken up by signs, put together: `f o o`, `f.o.o`, `f*oo`."""

    def mend(match: re.Match[str]) -> str:
        pieces = [piece for piece in _SIGN_IN_WORD.split(match.group()) if piece]
        # only where a piece is a single letter or all are tiny: `the end.is near` lacks a space, nothing more
        if len(pieces) > 1 and (any(len(p) == 1 for p in pieces) or all(len(p) == 2 for p in pieces)):
            return "".join(pieces)
        return match.group()

    for pattern in (_DOTTED, spelled):
        view = _rewritten(view, pattern, lambda match: "".join(c for c in match.group() if c.isalnum()))
    return _rewritten(view, _TOKEN, mend) if _SIGN_AT_LETTER.search(view.text) else view


def _squeezed(view: View, keep: int) -> View:
    """Letters that stand three times or more in a row, `keep` times instead."""
    return _rewritten(view, _LONG_RUN, lambda match: match.group(1) * keep)


def _spaced(view: View) -> View:
    """Whatever sets words apart, as one space."""
    return _rewritten(view, _BETWEEN_WORDS, lambda _: " ")


def _rewritten(view: View, pattern: re.Pattern[str], change: Callable[[re.Match[str]], str]) -> View:
    """The view with each match replaced by some of its own characters, or by one space; offsets stay true."""
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    at = 0
    for match in pattern.finditer(view.text):
        replacement = change(match)
        if replacement == match.group():
            continue
        begin, end = match.span()
        pieces += (view.text[at:begin], replacement)
        places = _places(match.group(), replacement, begin)
        starts += [*view.starts[at:begin], *(view.starts[i] for i in places)]
        # what is left out after the last character belongs to it, so that a term's span covers its disguise
        ends += [*view.ends[at:begin], *(view.ends[i] for i in places[:-1]), view.ends[end - 1]]
        at = end
    if not pieces:
        return view
    return View("".join([*pieces, view.text[at:]]), [*starts, *view.starts[at:]], [*ends, *view.ends[at:]])


def _places(old: str, new: str, offset: int) -> list[int]:
    """Where each character of `new` stands in `old`, read from left to right."""
    found: list[int] = []
    at = 0
    for character in new:
        there = old.find(character, at)
        at = at if there < 0 else there
        found.append(offset + at)
        at = min(at + 1, len(old) - 1)
    return found
