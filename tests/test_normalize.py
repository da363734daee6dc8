"""The views of a text: what they undo, that every offset leads back, and that nobody can make them dear."""

import random
import string

import pytest

from appliance.text import fold, normalize
from appliance.text.view import View

LETTERS = (
    string.printable
    + "éñßﬁ½Ⅷ\u0301\u0327\u200b\u200d\u202e\u2066\ufeffпрѕщюяΩθψ禁가각가🙂👩‍👧🇫🇷🅰ＡＢ𝓪𝔟ⓒ⒞"
    + "İıſǆΐ$@1’‘“‐—\u00a0\u3000\u3164\u0e33\ufdfa"
)


def read(text: str) -> dict[str, list[str]]:
    """The views' texts by disguise."""
    found: dict[str, list[str]] = {}
    for view in normalize.views(text):
        found.setdefault(view.disguise, []).append(view.text)
    return found


def true_to(text: str, view: View) -> bool:
    return (
        len(view.text) == len(view.starts) == len(view.ends)
        and all(0 <= start < end <= len(text) for start, end in zip(view.starts, view.ends, strict=True))
        and list(view.starts) == sorted(view.starts)
        and list(view.ends) == sorted(view.ends)
    )


@pytest.mark.parametrize("seed", range(8))
def test_every_character_of_every_view_leads_back_into_the_original(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(150):
        text = "".join(draw.choices(LETTERS, k=draw.randrange(60)))
        for view in normalize.views(text):
            assert true_to(text, view), (text, view)


@pytest.mark.parametrize("seed", range(4))
def test_a_word_is_found_where_it_stands_whatever_stands_before_it(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(150):
        before = "".join(draw.choices(LETTERS, k=draw.randrange(30))) + " "
        text = before + "zebra" + " " + "".join(draw.choices(LETTERS, k=draw.randrange(30)))
        plain = normalize.views(text)[0]
        at = plain.text.index("zebra")
        start, end = plain.span(at, at + 5)
        assert text[start:end].startswith("zebra")


@pytest.mark.parametrize("seed", range(4))
def test_the_fast_way_folds_as_the_slow_way_does(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(200):
        text = "".join(draw.choices(LETTERS, k=draw.randrange(30)))
        slow = "".join(fold.fold(text[start:end]) for start, end in fold.clusters(text))
        assert fold.folded(text).text == slow


def test_folding_what_is_folded_changes_nothing() -> None:
    for point in [*range(0x3000), *range(0x1D400, 0x1D800), *range(0xA000, 0xB000)]:
        once = fold.folded(chr(point)).text
        assert fold.folded(once).text == once


@pytest.mark.parametrize(
    ("text", "disguise", "seen"),
    [
        ("NUDE", "", "nude"),
        ("ｎｕｄｅ", "", "nude"),
        ("𝕟𝕦𝕕𝕖", "", "nude"),
        ("ⓝⓤⓓⓔ", "", "nude"),
        ("n\u200bu\u2060d\ufeffe", "", "nude"),
        ("\u202enude\u202c", "", "nude"),
        ("nu\u00adde", "", "nude"),
        ("don’t", "", "don't"),
        ("a\u00a0b\u3000c\nd", "", "a b c d"),
        ("n̶ú̷d̸e̵", "marks", "nude"),
        ("nudе", "marks", "nude"),
        ("сrаp", "marks", "crap"),  # 2026-11-21: Cyrillic с was in no table
        ("🅽🆄🅳🅴", "marks", "nude"),
        ("🇳🇺🇩🇪", "marks", "nude"),
        ("ɲuɗɛ", "marks", "nude"),
        ("n.u.d.e", "spacing", "nude"),
        ("n u d e", "spacing", "nude"),
        ("n-u-d-e", "spacing", "nude"),
        ("nud.e", "spacing", "nude"),
        ("nud3", "leetspeak", "nude"),
        ("n.u.d.3", "leetspeak", "nude"),
        ("nuuuude", "stretching", "nude"),
        ("nuuuud3", "stretching", "nude"),
        ("nud3!", "leetspeak", "nude!"),
        ("нуде", "transliteration", "nude"),
        ("шит", "transliteration", "shit"),
        ("χαος", "transliteration", "chaos"),
    ],
)
def test_a_disguise_is_undone_and_named(text: str, disguise: str, seen: str) -> None:
    assert seen in read(text)[disguise]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The ferry leaves at seven, and comes back before dark.",
        "I don't think she'd say it's ours; we're sure they've gone.",
        "We’d said: “it’s fine”.",
        "On the 2nd of May, in the 90s, at 5pm, 10km away!",
        "Go on! Why? (Because.)",
    ],
)
def test_an_ordinary_text_has_one_view(text: str) -> None:
    assert len(normalize.views(text)) == 1


HOSTILE = {
    "empty": "",
    "a lone surrogate": "a\ud800b\udfff",
    "NULs": "\0" * 10_000,
    "a million marks": "a" + "\u0301\u0327" * 500_000,
    "overrides": "\u202e\u2066\u2069" * 3_000 + "nude",
    "one letter": "a" * 1_000_000,
    "signs": "@!$" * 3_000,
    "dots": "a." * 5_000,
    "spaces": "a _" * 3_000,
    "leetspeak": "1a" * 5_000,
    "joiners": "👩\u200d" * 3_000,
    "jamo": "\u1100\u1161\u11a8" * 3_000,
    "the longest ligature": "\ufdfa" * 500,
    "look-alikes": "аe" * 5_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_has_few_views_and_none_is_long(text: str) -> None:
    views = normalize.views(text)
    assert 1 <= len(views) < 12
    assert all(len(view.text) <= 18 * len(text) for view in views)  # U+FDFA is eighteen letters
    for view in views:
        view.text.encode()  # nothing is left that is no text


def test_a_letter_keeps_no_more_marks_than_a_word_has() -> None:
    assert len(normalize.views("a" + "\u0301\u0327" * 500_000)[0].text) <= fold.MOST_MARKS
    assert normalize.views("a" + "\u0301\u0327" * 500_000)[0].span(0, 1) == (0, 1_000_001)
