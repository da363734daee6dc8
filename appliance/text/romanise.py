"""Another script's letters, read by their sound in Latin ones: Cyrillic and Greek, so that a word of one language
written in the letters of another is found."""

from appliance.text.view import View

LATIN = {
    **dict(zip("абвгдеёзийклмнопрстуфхыэіґўј", "abvgdeeziyklmnoprstufhyeiguj", strict=True)),  # Cyrillic
    **{"ж": "zh", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "sh", "ъ": "", "ь": "", "ю": "yu", "я": "ya", "ї": "i"},
    **{"є": "e", "љ": "lj", "њ": "nj", "ћ": "c", "ђ": "dj", "џ": "dz", "ѓ": "g", "ќ": "k", "ѕ": "z"},
    **dict(zip("αβγδεζηικλμνξοπρσςτυφωάέήίόύώϊϋ", "avgdezhiklmnxoprsstyfoaehioyoiy", strict=True)),  # Greek
    **{"θ": "th", "χ": "ch", "ψ": "ps", "η": "i", "ή": "i"},
}
"""Letter → its sound; empty for a sign that has none."""
_TABLE = {ord(letter): sound for letter, sound in LATIN.items()}
SCREEN = r"\p{Cyrillic}{2}|\p{Greek}{2}"
"""A text of which romanising makes another: RE2."""


def romanised(view: View) -> View:
    """With each letter that has a sound in Latin letters as those."""
    if all(len(LATIN.get(letter, letter)) == 1 for letter in set(view.text)):
        return View(view.text.translate(_TABLE), view.starts, view.ends)
    sounds = [LATIN.get(letter, letter) for letter in view.text]
    places = [index for index, sound in enumerate(sounds) for _ in sound]
    return View("".join(sounds), [view.starts[i] for i in places], [view.ends[i] for i in places])
