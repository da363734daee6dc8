"""Which language a text is in, that it is in two, or that it cannot be told. py3langid's room."""
# py3langid ships no types; what leaves this file is typed.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportPrivateUsage=false

import functools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray
from py3langid.langid import MODEL_FILE, LanguageIdentifier

UNKNOWN = "unknown"
MIXED = "mixed"
NAMELESS = (UNKNOWN, MIXED)
"""What `code` is where no one language can be named."""

# On 1,632 English prompts of 1 to 60 words, .4 names a wrong language 5 times and none 409 times; with no threshold
# 270 are wrong, one-word prompts above all.
_SURE = 0.4
# Characters read of each of three pieces. py3langid takes 190 µs for 2,000 characters; three pieces of 64 take 66,
# mixtures told, and of 2,957 sentences of dialogue in 8 languages as many are right; pieces of 100 took 89 and were no
# better.
_PIECE = 64
_PIECES = 3
_SHORTEST_PIECE = 24
_PIECE_SURE = 0.55  # a piece that is one quarter of a second language is rarely surer than .5
_FEWEST_LETTERS = 5
_FEWEST_UNSPACED = 2  # of a script whose characters are words or syllables
_SCRIPT_SHARE = 0.2

_NOT_PROSE = re.compile(r"(?:https?://|www\.)\S*|[\w.+-]{1,64}@[\w.-]{1,253}|[@#]\w+")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SCRIPTS = {
    "latin": r"A-Za-z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff",
    "greek": r"\u0370-\u03ff\u1f00-\u1fff",
    "cyrillic": r"\u0400-\u052f",
    "armenian": r"\u0530-\u058f",
    "hebrew": r"\u0590-\u05ff",
    "arabic": r"\u0600-\u06ff\u0750-\u077f",
    "indic": r"\u0900-\u0dff",
    "unspaced": r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af",
    "georgian": r"\u10a0-\u10ff",
    "ethiopic": r"\u1200-\u137f",
}
_BY_SCRIPT = {name: re.compile(f"[{letters}]+") for name, letters in _SCRIPTS.items()}
_WEIGHT = {"unspaced": 2.5}  # letters of Latin that say as much
_NO_LANGUAGE = ("zxx", "und")  # no linguistic content, undetermined


class Language(msgspec.Struct, frozen=True):
    code: str
    """ISO 639 (`en`, `es`), `mixed`: real parts in two languages, or `unknown`: too short, no words, or several
    languages alike."""
    confidence: float
    """0 to 1, of the best guess, also where it was not enough to name a language."""


def detect(text: str) -> Language:
    """The language most of the text is in. The model is loaded at the first call, in about a second; see `warm`."""
    pieces = _pieces(text)
    prose = " ".join(pieces)
    scripts = {} if prose.isascii() else _scripts(prose)
    if len(prose) < _FEWEST_LETTERS and scripts.get("unspaced", 0) < _FEWEST_UNSPACED * _WEIGHT["unspaced"]:
        return Language(UNKNOWN, 0.0)
    if len(scripts) > 1:
        first, second = sorted(scripts.values(), reverse=True)[:2]
        if second / (first + second) >= _SCRIPT_SHARE:
            return Language(MIXED, round(first / sum(scripts.values()), 4))
    (code, confidence), *parts = _scorer().classify(pieces)
    named = {name: sure for name, sure in parts if sure >= _PIECE_SURE and name not in _NO_LANGUAGE}
    if len(named) > 1 and not any(named.keys() <= kin for kin in _KIN):
        return Language(MIXED, round(min(named.values()), 4))
    if confidence < _SURE or code in _NO_LANGUAGE:
        return Language(UNKNOWN, confidence)
    return Language(code, confidence)


def warm() -> None:
    """Load the model, so that no request waits for it."""
    detect("read the language model before the first text")


# Languages so near that a piece of one is often taken for another: no mixture.
_KIN = (
    frozenset({"es", "gl", "pt", "ca", "an", "ext", "oc", "it", "vec", "lij"}),
    frozenset({"da", "no", "nn", "sv", "fo"}),
    frozenset({"de", "lb", "nl", "af", "fy"}),
    frozenset({"hr", "sr", "bs", "sl", "mk", "bg"}),
    frozenset({"ru", "uk", "be", "ba", "tt"}),
    frozenset({"cs", "sk", "pl"}),
    frozenset({"id", "ms", "jv", "ace"}),
    frozenset({"fr", "wa", "oc", "gcr", "gcf", "ht"}),
    frozenset({"zh", "yue", "wuu", "ja"}),
    frozenset({"ar", "arz", "ary", "fa", "ur", "ps"}),
    frozenset({"hi", "mr", "ne", "sa", "gom"}),
    frozenset({"en", "pcm"}),
)


def _pieces(text: str) -> list[str]:
    """The words alone, in up to three pieces of one length: of a long text its beginning, its middle and its end."""
    if len(text) <= _PIECE * _PIECES * 2:
        words = _words(text)
        count = min(max(sum(map(len, words)) // _SHORTEST_PIECE, 1), _PIECES)
        each = math.ceil(len(words) / count)
        found = [" ".join(words[start : start + each]) for start in range(0, len(words), each or 1)]
    else:
        room = _PIECE * 2  # there may be links in it
        found = [" ".join(_words(text[at : at + room])) for at in (0, (len(text) - room) // 2, len(text) - room)]
    return [piece[:_PIECE] for piece in found if piece]


def _words(text: str) -> list[str]:
    if "@" in text or "#" in text or "www." in text or "://" in text:
        text = _NOT_PROSE.sub(" ", text)
    return _WORD.findall(text)


def _scripts(prose: str) -> dict[str, float]:
    """Script → letters, each script's by what they say."""
    # words that mix alphabets are a disguise, and say nothing of the language
    found: Counter[str] = Counter()
    for name, letters in _BY_SCRIPT.items():
        if count := sum(map(len, letters.findall(prose))):
            found[name] = count
    return {name: count * _WEIGHT.get(name, 1.0) for name, count in found.items()}


class _Scorer:
    """py3langid's model, scored here: its table as float32 (half a float multiplies ten times slower), several pieces
    in one multiplication."""

    def __init__(self, identifier: LanguageIdentifier) -> None:
        self._next: Any = identifier.tk_nextmove
        self._base: list[int] = [row << 8 for row in identifier.tk_row]
        self._output: Any = identifier.tk_output
        self._prior = np.asarray(identifier.nb_pc, np.float32)
        self._classes: list[str] = list(identifier.nb_classes)
        self._table: NDArray[np.float32] = np.ascontiguousarray(identifier.nb_ptc, np.float32)
        # one label may have two columns (Serbian in two alphabets): the second is added to the first
        self._twice: list[tuple[int, int]] = list(identifier._alias_pairs)

    @classmethod
    def load(cls) -> Self:
        return cls(LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True))

    def classify(self, pieces: Sequence[str]) -> list[tuple[str, float]]:
        """The likeliest language of all together and how likely, then, where there are several, of each piece."""
        read = [self._encoded(piece) for piece in pieces]
        scores = np.empty((len(pieces), len(self._prior)), np.float32)
        for line, data in zip(scores, read, strict=True):
            self._score(data, line)
        lengths = [len(data) for data in read]
        if len(pieces) > 1:
            scores = np.vstack((scores.sum(axis=0), scores))
            lengths = [sum(lengths), *lengths]
        scores += self._prior
        # the square root of the length keeps the likelihoods of long texts from being all 0 or 1
        scores *= np.array([[1 / math.sqrt(length)] for length in lengths], np.float32)
        scores -= scores.max(axis=1, keepdims=True)
        odds = np.exp(scores)
        odds /= odds.sum(axis=1, keepdims=True)
        for first, second in self._twice:
            odds[:, first] += odds[:, second]
            odds[:, second] = 0
        best = odds.argmax(axis=1).tolist()
        return [(self._classes[i], float(line[i])) for i, line in zip(best, odds, strict=True)]

    def _score(self, data: bytes, into: NDArray[np.float32]) -> None:
        """How well the features seen on the way through the automaton go with each language."""
        state = 0
        seen: list[int] = []
        step, base, output = self._next, self._base, self._output
        for byte in data:
            state = step[base[state] + byte]
            feature = output[state]
            if feature >= 0:
                seen.append(feature)
        counts = Counter(seen)
        rows = self._table.take(list(counts), axis=0)
        np.matmul(np.log1p(np.array(list(counts.values()), np.float32)), rows, out=into)

    @staticmethod
    def _encoded(text: str) -> bytes:
        text = text.lower() if text.isupper() else text
        return unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")


@functools.cache
def _scorer() -> _Scorer:
    return _Scorer.load()
