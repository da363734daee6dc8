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


@pytest.mark.parametrize(
    "text",
    [
        "I would like to order the soup please. Ich hätte gerne die Suppe und ein Glas Wasser dazu.",
        "We are meeting at the station tomorrow morning. Nous irons ensemble au marché pour acheter du pain.",
        "Mañana vamos todos a la playa con los niños. The weather forecast says it will be sunny all day.",
        "this is what I said to him yesterday, а потом он мне ничего не ответил",
        "今日はとても天気がいいですね and we should go for a walk together",
    ],
)
def test_two_languages_with_real_parts_each_are_mixed(text: str) -> None:
    assert language.detect(text).code == language.MIXED


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Le nouvel album de Taylor Swift est sorti hier et je l'écoute en boucle depuis ce matin", "fr"),
        ("Gestern haben wir im Kino den neuen Film mit Brad Pitt gesehen und danach Pizza gegessen", "de"),
        ("昨日iPhoneを買いました。とても使いやすいです。", "ja"),
        (
            "watch this https://exemple.fr/les-plus-belles-plages-de-france it is about the beaches of the coast",
            "en",
        ),
        ("thank you @señor_gonzalez for the lovely evening that we had with all of you", "en"),
    ],
)
def test_names_and_links_make_no_mixture(text: str, code: str) -> None:
    assert language.detect(text).code == code


def test_a_mixture_is_seen_at_the_end_of_a_long_text() -> None:
    english = "the quick brown fox jumps over the lazy dog and runs away. " * 20
    french = "le renard brun saute par-dessus le chien paresseux et s'en va. " * 20
    assert language.detect(english + french).code == language.MIXED


@pytest.mark.parametrize("text", ["\u0301" * 1_000_000, "🙂" * 250_000, "\ud800" * 10_000, "\x00" * 10_000, "a b " * 9])
def test_what_has_no_words_is_unknown(text: str) -> None:
    assert language.detect(text).code == language.UNKNOWN
