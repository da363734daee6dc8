"""Emoji, formatting, nsfw and language: what each finds, what it leaves alone, and odd texts."""

from collections.abc import Callable

import pytest

from appliance.text import language, normalize
from appliance.text.analysis import RULES, Result
from appliance.text.analyzers import ANALYZERS, emoji, formatting, nsfw
from appliance.text.analyzers import language as unsure
from appliance.text.reading import Reading


def read(text: str) -> Reading:
    return Reading(text, normalize.views(text[:2000]), [], language.detect(text))


def test_the_analyzers_stand_in_the_order_of_the_rules() -> None:
    assert list(ANALYZERS) == list(RULES)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("🙂" * 30, "flood"),
        ("👍🏽 " * 9, "repeated"),
        ("🍆💦", "explicit_sequence"),
        ("👉 👌", "suggestive_sequence"),
        ("🔫👮", "threatening_sequence"),
    ],
)
def test_emoji_that_say_something_are_named(text: str, name: str) -> None:
    found = emoji.look(read(text))
    assert name in found.matched
    assert found.score >= 0.5


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "hello 🙂",
        "👨‍👩‍👧‍👦 👩🏽‍🚀 🏳️‍🌈",
        "I love 🍑 pie, and 🍒",
        "I'm dead 💀😂",
        "chop the 🥕 with a 🔪",
        "🇫🇷🇩🇪🇪🇸🇬🇧",
        "🎂🎉🎁🥳",
    ],
)
def test_ordinary_emoji_are_nothing_to_warn_of(text: str) -> None:
    assert emoji.look(read(text)).score < 0.5


def test_a_family_is_one_emoji() -> None:
    assert emoji.look(read("👨‍👩‍👧‍👦" * 7)).matched == ()
    assert "repeated" in emoji.look(read("👨‍👩‍👧‍👦" * 8)).matched


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("I AM SHOUTING AT ALL OF YOU", "shouting"),
        ("what!!!!!!!!", "repeated_signs"),
        ("nooooooooooooo", "repeated_letters"),
        ("z̸̧̛̤̗̲̪̲̀͑̿ͅalgo", "stacked_marks"),
        ("a\n" * 60, "line_flood"),
        ("hello\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\nthere", "line_flood"),
        ("buy this now\n" * 6, "repeated_lines"),
        ("spam " * 20, "repeated_words"),
        ("a\u200b" * 9, "invisible_padding"),
        ("\u202eabc", "direction_override"),
        (" \t ", "empty"),
    ],
)
def test_odd_setting_is_named(text: str, name: str) -> None:
    assert name in formatting.look(read(text)).matched


@pytest.mark.parametrize(
    "text",
    [
        "An ordinary sentence. And another one!",
        "NASA and the USA",
        "OK",
        "wow!!! really???",
        "wait...........",
        "------------------------------",
        "naïve café, Ångström, Việt Nam",
        "हिन्दी में लिखा हुआ वाक्य",
        "שָׁלוֹם עֲלֵיכֶם",
        "first line\n\nsecond line\n\nthird line",
        "- [ ] a\n- [ ] b\n- [x] c",
    ],
)
def test_ordinary_setting_is_left_alone(text: str) -> None:
    assert formatting.look(read(text)) == Result(0.0)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("send me nudes please", "nude_request"),
        ("envoie moi des nudes", "nude_request"),
        ("looking for a hookup tonight", "sexual_offer"),
        ("hot singles near you", "adult_promotion"),
    ],
)
def test_a_sexual_offer_has_a_form_of_its_own(text: str, name: str) -> None:
    assert name in nsfw.look(read(text)).matched


@pytest.mark.parametrize(
    "text", ["nude lipstick suits you", "show me the naked truth", "I want to join my fans", "a hot dog, and hot girls"]
)
def test_words_that_only_sound_so_are_left_alone(text: str) -> None:
    assert nsfw.look(read(text)).score < 0.4


def test_an_unsure_language_never_weighs_much() -> None:
    sure = unsure.look(read("the train to the coast leaves at nine in the morning"))
    unknown = unsure.look(read("🙂🙂"))
    mixed = unsure.look(read("this is what I said to him yesterday, а потом он мне ничего не ответил"))
    assert sure.score < 0.1
    assert sure.matched == ()
    assert (unknown.score, unknown.matched, unknown.graded) == (1.0, ("unknown",), "low")
    assert mixed.matched == ("mixed",)
    assert mixed.graded in ("none", "low")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\ud800\udc00\ud800",
        "\x00" * 10_000,
        "🙂" * 250_000,
        "👨‍" * 100_000,
        "🍆 " * 100_000,
        "\u0301" * 1_000_000,
        "a\u0301\u0302\u0303" * 100_000,
        "\n" * 100_000,
        "A " * 100_000,
        "!" * 100_000,
        "\u202e" * 10_000,
        "send me my " * 50_000,
    ],
)
@pytest.mark.parametrize("look", [emoji.look, formatting.look, nsfw.look, unsure.look])
def test_odd_texts_have_a_score(text: str, look: Callable[[Reading], Result]) -> None:
    found = look(read(text))
    assert 0 <= found.score <= 1
    assert len(found.matched) < 20


# 2026-11-21: ten thousand characters of a@a@a@ kept one expression busy for minutes
@pytest.mark.parametrize(
    "piece", ["a@", "a.a@", "#a", "@", "a", "http://", "a.", "1 ", "$1,", "[.", "\ud800", "f4ck sh1t "]
)
def test_no_analyzer_is_kept_busy_by_the_longest_text_there_is(piece: str) -> None:
    text = (piece * 10_000)[:10_000]
    reading = Reading(text, normalize.views(text), [], language.detect(text))
    assert all(0 <= look(reading).score <= 1 for look in ANALYZERS.values())
