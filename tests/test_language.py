"""Which language a text is in: named when it is plain, unknown when it is not."""

import pytest

from appliance.text import language


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a bowl of ramen on a wooden table, steam rising, food photography", "en"),
        ("retrato de una mujer con sombrero en la playa", "es"),
        ("une femme lit un livre au café", "fr"),
        ("ein Hund am Strand bei Sonnenuntergang", "de"),
        ("una donna che cammina sotto la pioggia in città", "it"),
        ("кошка спит на подоконнике у открытого окна", "ru"),
        ("猫が窓辺で眠っています", "ja"),
        ("قطة تنام على النافذة في المساء", "ar"),
    ],
)
def test_a_sentence_is_in_its_language(text: str, code: str) -> None:
    found = language.detect(text)
    assert found.code == code
    assert 0.4 <= found.confidence <= 1


@pytest.mark.parametrize("text", ["", " ", "cat", "hola", "12345", "🙂🙂", "???", "8k, 4k, f/1.8"])
def test_too_little_text_is_in_no_known_language(text: str) -> None:
    assert language.detect(text).code == language.UNKNOWN


def test_only_the_beginning_of_a_long_text_is_read() -> None:
    assert language.detect("the quick brown fox jumps over the lazy dog. " * 20_000).code == "en"


def test_broken_characters_are_no_error() -> None:
    assert 0 <= language.detect("\ud800 a picture of a cat \x00").confidence <= 1
