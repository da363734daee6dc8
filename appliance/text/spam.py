"""Whether a text reads like spam: a logistic regression over hashed words and pairs of words. numpy only, no room of
scikit-learn: that is spamtrain's."""

import itertools
import math
import re
from pathlib import Path
from typing import Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from appliance.errors import Misconfigured

BUCKETS = 1 << 15
FILE = "weights.npy"
_READ = 3_000  # characters
_WORDS = 160
"""Words read: advertising shows early, and each costs half a microsecond."""

# what differs from one advertisement to the next is read as what it is
_PLAIN = r"[^\W\d_]+(?:['’][^\W\d_]+)?"
_TOKEN = re.compile(
    r"(?P<link>(?:https?://|www\.)\S+)|(?P<mail>[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4})|(?P<money>[£$€]\s?\d[\d.,]*k?|\d[\d.,]*\s?[£$€])"
    r"|(?P<percent>\d+\s?%)|(?P<phone>\+?\d[\d\s-]{8,20}\d)|(?P<number>\d+)"
    rf"|{_PLAIN}|(?P<marks>!{{2,}}|\${{2,}}|!)"
)
# where none of these stands, tokens are words, and are read in half the time (500 characters: 90 → 52 µs)
_ANY_SIGN = re.compile(r"[\d$€£!@]|://|www\.")
_WORD = re.compile(_PLAIN)
_LONG_WORD = 24
_LOUD = 0  # the bucket of several words in capitals


def features(text: str) -> list[int]:
    """The buckets of a text's words, pairs of words and shape."""
    words, loud = _read(text[:_READ])
    if not words:
        return []
    hashed = [crc32(word.encode("utf-8", "surrogatepass")) for word in words]
    found = {code % BUCKETS for code in hashed}
    found.update((left * 31 + right) % BUCKETS for left, right in itertools.pairwise(hashed))
    if loud >= 2:
        found.add(_LOUD)
    return list(found)


def _read(text: str) -> tuple[list[str], int]:
    """The first words as they are hashed, and how many of them are loud."""
    if _ANY_SIGN.search(text) is None:
        said = _WORD.findall(text)[:_WORDS]
        return [word.lower()[:_LONG_WORD] for word in said], sum(len(word) > 3 and word.isupper() for word in said)
    words: list[str] = []
    loud = 0
    for match in _TOKEN.finditer(text):
        word = match.group()
        if match.lastgroup is not None:
            words.append("<" + match.lastgroup + ">")
        else:
            loud += len(word) > 3 and word.isupper()
            words.append(word.lower()[:_LONG_WORD])
        if len(words) >= _WORDS:
            break
    return words, loud


class Model:
    """The weights of every bucket, then the bias. Used by any number of threads."""

    def __init__(self, weights: NDArray[np.float32]) -> None:
        self._weights = weights[:BUCKETS]
        self._bias = float(weights[BUCKETS])

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises Misconfigured."""
        path = folder / FILE
        try:
            weights = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise Misconfigured(f"{path}: cannot be read; it comes with Customhouse, or from: train spam") from error
        if weights.shape != (BUCKETS + 1,):
            raise Misconfigured(f"{path}: {weights.shape} weights where {BUCKETS + 1} belong")
        return cls(weights.astype(np.float32))

    def score(self, text: str) -> float:
        """0 to 1; .6 is where one innocent text in a hundred stands, .95 where one in a thousand does."""
        return self.score_of(features(text))

    def score_of(self, buckets: list[int]) -> float:
        return 1 / (1 + math.exp(-self.logit(buckets)))

    def logit(self, buckets: list[int]) -> float:
        """Long texts are no surer for being long: the sum is over the root of the number of features."""
        if not buckets:
            return -10.0
        return float(self._weights[buckets].sum()) / len(buckets) ** 0.5 + self._bias
