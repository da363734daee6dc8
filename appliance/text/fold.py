"""Characters, one spelling for many: case, width and what cannot be seen; then marks and look-alikes.

Each character's fold is worked out once a process. A text whose characters all fold to one, which is nearly every text,
costs one str.translate and keeps its offsets as they are.
"""

import unicodedata
from collections.abc import Iterable

from appliance.text.view import View

# Letters that look like Latin ones. NFKC has already folded full-width, mathematical, circled and superscript letters,
# and casefold the capitals, so only small letters are needed here. A table of our own rather than the 6 thousand of
# confusable-homoglyphs, which also folds rn to m and l to 1: those are real words.
LOOKALIKES = str.maketrans(
    {
        **dict(zip("абвгԁезікӏмнорԛсѕтυԝхуіјһёү", "abbrdeeiklmhopqcstuwxyijhey", strict=True)),  # Cyrillic
        **dict(zip("αβγεηικνορτυχωϲϳ", "abyenikvoptuxwcj", strict=True)),  # Greek
        **dict(zip("օսոհցգքւյզ", "ounhggquhq", strict=True)),  # Armenian
        **dict(zip("ıɑɡɩʟɴʀʏᴀʙᴄᴅᴇɢʜɪᴊᴋᴍᴏᴘꜱᴛᴜᴠᴡᴢ", "iagilnryabcdeghijkmopstuvwz", strict=True)),  # phonetic
        **dict(zip("øłđħŧɓƒ", "oldhtbf", strict=True)),  # NFD takes marks off, but not strokes
        **dict(zip("🅰🅱🅾🅿", "abop", strict=True)),
        **{0x1F1E6 + i: chr(97 + i) for i in range(26)},  # the letters that flags are made of
        **{0x1F170 + i: chr(97 + i) for i in range(26)},  # negative squared letters
        **{0x1F150 + i: chr(97 + i) for i in range(26)},  # negative circled letters
        **dict(zip("ƈɗɛɠɦƙɱɲƥʠʂƭʋʑ", "cdeghkmnpqstvz", strict=True)),  # with hooks
        **dict(zip("ɐɔǝɟƃɥᴉɾʞɯɹʇʌʍʎ", "acefghijkmrtvwy", strict=True)),  # upside down
        **dict(zip("ᏢᏟᎢᎪᎬᎻᏀᏒᏚ".lower(), "pctaehgrs", strict=True)),  # Cherokee
        **dict(zip("ƶɜʒ", "zez", strict=True)),
    }
)
_KEPT = "ñ"  # Spanish año and ano are different words, and one of them is on many lists
MOST_MARKS = 8  # on one letter; a word in any language has fewer, and sorting a million of them would take minutes

_QUOTES = frozenset("‘’ʼ´`＇")  # what is typed for an apostrophe
_APOSTROPHES = str.maketrans(dict.fromkeys(_QUOTES, "'"))
_UNSEEN = frozenset("\u034f\u115f\u1160\u3164\uffa0\u2800") | {chr(c) for c in (*range(0xFE00, 0xFE10), 0x20E3)}
"""Letters and marks that show nothing: fillers, the empty Braille cell, variation selectors, the key cap."""
_UNSEEN_KINDS = ("Cf", "Cc", "Cn", "Co", "Cs")
_ASCII = {
    **{c: " " if chr(c).isspace() else None for c in range(128)},
    **{c: chr(c).lower() for c in range(32, 127)},
    ord("`"): "'",
}


def folded(text: str) -> View:
    """NFKC, case folded, what cannot be seen left out, every space a space."""
    if text.isascii():
        plain = text.translate(_ASCII)
        if len(plain) == len(text):
            return View(plain, range(len(text)), range(1, len(text) + 1))
    kinds = {letter: kind for letter in set(text) if (kind := _KINDS[letter])}
    odd = {letter for letter, kind in kinds.items() if kind == _ODD}
    if odd:
        return _folded_with(text, odd)
    plain = text
    for letter in kinds:  # a few; str.translate through a table of Python's takes ten times as long
        plain = plain.replace(letter, _FOLDS[letter])
    return View(plain.lower(), range(len(text)), range(1, len(text) + 1))


def _folded_with(text: str, odd: set[str]) -> View:
    """`folded` where some characters fold to none or several, or belong to the letter before them."""
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []

    def take(start: int, end: int, fold: str) -> None:
        pieces.append(fold)
        starts.extend([start] * len(fold))
        ends.extend([end] * len(fold))

    at = 0
    for start, end in _odd_places(text, odd):
        if at < start:
            pieces.append(text[at:start].translate(_TABLE))
            starts.extend(range(at, start))
            ends.extend(range(at + 1, start + 1))
        take(start, end, _FOLDS[text[start]] if end - start == 1 else fold(text[start : min(end, start + MOST_MARKS)]))
        at = end
    pieces.append(text[at:].translate(_TABLE))
    starts.extend(range(at, len(text)))
    ends.extend(range(at + 1, len(text) + 1))
    return View("".join(pieces), starts, ends)


def _odd_places(text: str, odd: set[str]) -> Iterable[tuple[int, int]]:
    """Where odd characters stand, each with the letter that its marks are on."""
    places = [index for index, letter in enumerate(text) if letter in odd]
    combining = unicodedata.combining
    at = 0
    while at < len(places):
        start = places[at]
        end = start + 1
        at += 1
        while at < len(places) and places[at] == end and combining(text[end]):
            end += 1
            at += 1
        if combining(text[start]):
            # the letter before has been passed as an ordinary one, unless it was odd itself: then it took its marks
            if start and text[start - 1] not in odd:
                start -= 1
            yield start, end
        else:
            yield start, end


def clusters(text: str) -> Iterable[tuple[int, int]]:
    """Each character with the marks that belong to it, so that composing them loses no offset."""
    start = 0
    for index in range(1, len(text)):
        if text[index] < "\u0300" or not unicodedata.combining(text[index]):
            yield start, index
            start = index
    if text:
        yield start, len(text)


def composed(cluster: str) -> str:
    """NFKC, of no more marks than a word has."""
    return unicodedata.normalize("NFKC", cluster[: MOST_MARKS + 1])


def fold(cluster: str) -> str:
    """A character with its marks, as a blocklist compares it; empty when it cannot be seen."""
    if cluster.isspace():
        return " " * len(cluster)
    if cluster in _QUOTES:
        return "'"
    whole = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", cluster).casefold()).lower()
    return seen(whole.translate(_APOSTROPHES))


def seen(text: str) -> str:
    return "".join(c for c in text if is_seen(c))


def is_seen(character: str) -> bool:
    return character.isspace() or (unicodedata.category(character) not in _UNSEEN_KINDS and character not in _UNSEEN)


def bared(view: View) -> View:
    """Without marks on letters, and look-alikes as the Latin letters they look like."""
    if view.text.isascii():
        return view
    bare = view.text.translate(_BARE)
    if bare == view.text:
        return view
    if len(bare) == len(view.text):
        return View(bare, view.starts, view.ends)
    kept = [index for index, letter in enumerate(view.text) if _BARE[ord(letter)] is not None]
    return View(bare, [view.starts[i] for i in kept], [view.ends[i] for i in kept])


class _Folds(dict[str, str]):
    def __missing__(self, letter: str) -> str:
        self[letter] = made = fold(letter)
        return made


class _Kinds(dict[str, int]):
    def __missing__(self, letter: str) -> int:
        made = _FOLDS[letter]
        is_odd = len(made) != 1 or unicodedata.combining(letter)
        self[letter] = kind = _ODD if is_odd else int(made != letter.lower())
        return kind


class _Table(dict[int, str]):
    def __missing__(self, point: int) -> str:
        self[point] = made = _FOLDS[chr(point)]
        return made


class _Bare(dict[int, str | None]):
    def __missing__(self, point: int) -> str | None:
        self[point] = made = _bare(chr(point).translate(LOOKALIKES))
        return made


def _bare(letter: str) -> str | None:
    if letter.isascii() or letter in _KEPT:
        return letter
    if unicodedata.category(letter) == "Mn":
        return None
    return unicodedata.normalize("NFD", letter)[0].translate(LOOKALIKES)


_FOLDS = _Folds()
_KINDS = _Kinds()
_ODD = 2  # folds to none or several letters, or is a mark on one; 1: to another than its small letter; 0: to that
_TABLE = _Table()
_BARE = _Bare()
