"""The packs of four languages, against sentences with and without what they name, and against innocent look-alikes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.text import engine, language, lexicons, normalize
from appliance.text.analysis import RULES
from appliance.text.analyzers import evasion, nsfw, profanity, spam
from appliance.text.blocklist import Blocklist
from appliance.text.reading import Reading

FOLDER = Path(__file__).parent.parent / "config" / "lexicons"
LANGUAGES = ("en", "es", "fr", "de")
WARNS = 0.4

Read = Callable[[str], Reading]


@pytest.fixture(scope="module")
def read() -> Read:
    packs = Blocklist.build(lexicons.read_all(FOLDER))

    def read(text: str) -> Reading:
        views = normalize.views(text)
        bare = Reading(text, views, [], language.detect(text))
        return Reading(text, views, engine.counted(packs.hits(views), bare.tongue), bare.language)

    return read


def _is_flagged(reading: Reading) -> bool:
    return max(profanity.look(reading).score, nsfw.look(reading).score) >= WARNS


def _sentences(code: str) -> list[tuple[bool, str]]:
    lines = (Path(__file__).parent / "packs" / f"{code}.txt").read_text(encoding="utf-8").splitlines()
    return [(line[0] == "+", line[2:]) for line in lines if line and line[0] in "+-"]


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_pack_finds_what_it_names_and_little_else(read: Read, code: str) -> None:
    sentences = _sentences(code)
    assert len(sentences) >= 100
    flagged = {text: _is_flagged(read(text)) for _, text in sentences}
    missed = [text for is_meant, text in sentences if is_meant and not flagged[text]]
    false = [text for is_meant, text in sentences if not is_meant and flagged[text]]
    assert len(missed) <= 2, missed
    assert len(false) <= 3, false


def test_every_analyzer_that_a_list_names_exists() -> None:
    entries = lexicons.read_all(FOLDER)
    assert {entry.analyzer for entry in entries} - {None} <= set(RULES)
    assert {entry.language for entry in entries} >= set(LANGUAGES)


def test_no_term_stands_twice_in_one_list_of_a_language() -> None:
    seen = [
        (entry.term, entry.language, entry.analyzer, entry.category, entry.effect)
        for entry in lexicons.read_all(FOLDER)
    ]
    assert len(seen) == len(set(seen))


def test_the_blocklist_that_refuses_prompts_has_no_term_of_the_analyzers(read: Read) -> None:
    packs = Blocklist.build(lexicons.read_all(FOLDER))
    assert packs.match("what the fuck, you are an asshole and buy followers") is None
    assert packs.match("hentai") is not None


@pytest.mark.parametrize(
    "text",
    [
        "el año que viene compro un coche negro",
        "le train est en retard et il y a une douche con",
        "der Hund ist dick, und Herr Dick auch",
        "sale con sus amigos todos los viernes por la noche",
        "Scunthorpe, Penistone, Essex and Cockfosters",
    ],
)
def test_words_of_one_language_are_innocent_in_another(read: Read, text: str) -> None:
    assert not _is_flagged(read(text))


def test_a_grave_word_scores_over_a_mild_one(read: Read) -> None:
    mild, strong, slur = (profanity.look(read(text)) for text in ("oh damn", "oh fuck", "you faggot"))
    assert mild.score < WARNS <= strong.score < 0.9 <= slur.score
    assert strong.matched == ("fuck",)
    assert slur.graded == "critical"


@pytest.mark.parametrize(
    "text",
    [
        "Congratulations! You have won, claim your prize",
        "free robux, link in bio",
        "Seguidores gratis y dinero fácil",
        "Vous avez gagné, cliquez ici",
        "Follower kaufen und garantierte Gewinne",
    ],
)
def test_scams_are_spam_in_four_languages(read: Read, text: str) -> None:
    assert spam.look(read(text)).score >= 0.6


@pytest.mark.parametrize("text", ["he wants to unalive himself", "check my p0rn", "schl4mpe"])
def test_words_made_to_slip_past_are_evasion(read: Read, text: str) -> None:
    assert evasion.look(read(text)).score >= 0.4
