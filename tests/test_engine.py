"""The engine: what it finds and where, what it lets pass, how the language and allowed phrases weigh, whose lists."""

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.errors import Misconfigured
from appliance.house import House
from appliance.settings import Settings
from appliance.text import keywords, lexicons
from appliance.text.analysis import RULES, Analysis
from appliance.text.analyzers import ANALYZERS
from appliance.text.engine import Engine
from tests.cast import Person

PACKS = {
    "en": """
[[lists]]
analyzer = "profanity"
category = "profanity"
severity = "medium"
terms = ["ass", "arse", "cock", "dick", "tit", "tits", "cum", "shit", "crap", "piss", "damn", "hell", "anal", "sex",
    "rape", "porn", "prick", "pussy", "slut", "whore", "fag", "bugger", "twat", "wank", "nude", "penis", "cunt", "fuck"]

[[lists]]
analyzer = "profanity"
category = "profanity"
severity = "high"
match = "substring"
terms = ["motherf"]

[[lists]]
analyzer = "nsfw"
category = "sexual"
severity = "critical"
terms = ["rough sex"]

[[lists]]
category = "underage"
severity = "critical"
terms = ["forbidden lake"]

[[allow]]
terms = ["moby dick", "dick van dyke", "pussy willow", "forbidden lake district"]
""",
    "fr": """
[[lists]]
analyzer = "profanity"
category = "profanity"
severity = "high"
needs_language = true
terms = ["bite"]

[[lists]]
analyzer = "profanity"
category = "profanity"
terms = ["connard"]
""",
    "de": """
[[lists]]
analyzer = "profanity"
category = "profanity"
terms = ["dummkopf", "dick"]

[[innocent]]
terms = ["hell", "dick", "damn"]
""",
}
"""Mild words, as the packs have them: `dick` is on two lists, and innocent in German for the English one only."""


@pytest.fixture
def house(settings: Settings, tmp_path: Path) -> Any:
    folder = tmp_path / "packs"
    folder.mkdir()
    for language, pack in PACKS.items():
        (folder / f"{language}.toml").write_text(pack)
    house = House(msgspec.structs.replace(settings, lexicons_dir=folder))
    yield house
    house.close()


@pytest.fixture
def engine(house: House) -> Engine:
    return Engine(house)


def matched(engine: Engine, text: str, analyzer: str = "profanity", spoken: str = "auto") -> tuple[str, ...]:
    return engine.analyze("nobody", text, spoken).results[analyzer].matched


INNOCENT = """
Scunthorpe|Essex|Sussex|Middlesex|Wessex|Penistone|Lightwater|Clitheroe|Cockermouth|Cockburn
Shitterton Lane is renamed|Arsenal won|a classic assassin|the class passed|grass|glass|brass|bass guitar
compass|embassy|ambassador|harassment policy|assess|assessment|asset|assign|assist|associate|assume|assure
assembly|passenger|massage|message in a cassette|Cassandra|Hancock|Hitchcock|peacock|woodcock|shuttlecock
cockpit|cocktail|cockroach|cockatoo|Babcock|Alcock|weathercock|stopcock|Dickens|Dickinson|Emily Dickinson
Benedick|Riddick|medical dictionary|predicktable|dickey bird|Dickson|title|titan|titanium|constitution
institute|petite|appetite|competition|practitioner|stitch|partition|Titian|entitled|cucumber|circumstance
document|accumulate|cumulative|scum of the pond|Cumbria|vacuum|talcum powder|analysis|analyst|canal|banal
analogue|Analytics|penal code|final|Montreal|psychoanalysis|Balanalysis|sextant|sextet|unisex hair
asexual reproduction|Sexton|sextuplets|bisexual person|transsexual history|grape|drape|scrape|therapist
therapeutic|drapery|trapeze|skyscraper|parapet|rapeseed oil|prickly pear|swishy hello|shell|hello|Michelle
shellfish|seashell|Othello|hellebore|Rochelle|damnation of Faust in a song|Amsterdam Nord|condamner|scrapbook
scrappy|crappie fishing|Mississippi|Pissarro painting|nudetones|denuded hills|pennies|peninsula|penicillin
Manuel the Pen-is-land owner|happenistance|swank hotel|swankier|Kuntz|Fukuoka|Fukushima|Fuchsia|Phuket
firetruck|Buckingham|puck|luck|duck|ruck|shuttle|Matsushita|Yamashita|twattle|Wankel engine|flagship|Fagin
sluttery|Twatt on Orkney|bugbear|Burger
"""
SENTENCES = (
    "The end of the pen.is near.",
    "I'm sure they've asked; she'd said so, didn't she?",
    "It's a T-shirt, an e-mail, an x-ray and a U-turn.",
    "Call me at 5pm on the 2nd, or at 10:30 on the 3rd!",
    "A S S E S S M E N T",
    "P.S. see p. 3, fig. 2a, vol. IV.",
    "We saw f/1.8, ISO 100, 4k, 35mm and a ps5.",
    "Version 1.2.3-beta4 of lib_assets was released.",
    "He studied at Essex, she at Sussex; both assess assets.",
    "The cockpit's titanium hatch was partitioned.",
    "B.B.C. and I.B.M. are abbreviations, U.S.A. too.",
    "Oh nooooo, that's sooooo good, yaaaay!",
    "a.m. or p.m.? i.e. when, e.g. now",
    "Il a une petite analyse.",
    "my_class.assign(asset) # passes",
    "https://www.essex.ac.uk/class/assess?title=titan",
    "mail@sussex.example or info@scunthorpe.example",
    "Das Institut analysiert die Massage.",
    "was it as simple as sin? as so often, as soon as",
    "pass it, press it, hit it, sit on it",
    "Is hit it a song? Was his hit one?",
    "the bus stops here, so do we",
    "100% of 455 people; $5 each, £10 for two",
    "🙂 nice! 👩‍👩‍👧 lovely 🇫🇷",
    "Кошка сидит на окне и смотрит.",
    "Η γάτα κάθεται στο παράθυρο.",
    "猫が窓に座っている。",
)


def innocent() -> list[str]:
    return [*(one.strip() for one in INNOCENT.replace("\n", "|").split("|") if one.strip()), *SENTENCES]


def test_the_list_of_innocent_words_is_long() -> None:
    assert len(set(innocent())) >= 150


def test_words_that_only_contain_a_term_pass(engine: Engine) -> None:
    names = ("profanity", "blocklist", "nsfw", "pattern_toxicity", "transliteration")
    found = {(text, name): matched(engine, text, name) for text in innocent() for name in names}
    assert {what: terms for what, terms in found.items() if terms} == {}


@pytest.mark.parametrize("apart", [" ", ", ", "\n"])
def test_together_they_pass_too(engine: Engine, apart: str) -> None:
    assert matched(engine, apart.join(innocent())) == ()


def test_the_shipped_packs_let_them_pass(settings: Settings) -> None:
    house = House(settings)
    shipped = Engine(house)
    found = {text: matched(shipped, text) for text in innocent()}
    house.close()
    assert {text: terms for text, terms in found.items() if terms} == {}


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("what a shit day", "shit"),
        ("SHIT!", "SHIT"),
        ("sh1t", "sh1t"),
        ("s.h.i.t", "s.h.i.t"),
        ("s h i t", "s h i t"),
        ("ѕhіt", "ѕhіt"),
        ("ｓｈｉｔ", "ｓｈｉｔ"),
        ("s\u200bh\u200bi\u200bt", "s\u200bh\u200bi\u200bt"),
        ("s̷h̸i̵t̶", "s̷h̸i̵t̶"),
        ("shiiiiit", "shiiiiit"),
        ("шит", "шит"),
        ("$h!t", "$h!t"),
        ("sh*it", "sh*it"),
        ("a s h i t day", "s h i t"),
    ],
)
def test_a_term_is_found_however_it_is_written_and_where_it_stands(engine: Engine, text: str, piece: str) -> None:
    hits = engine.read("nobody", text).of("profanity")
    assert [(hit.entry.term, text[hit.start : hit.end]) for hit in hits][:1] == [("shit", piece)]


def test_every_match_is_told_once_in_the_order_of_the_text(engine: Engine) -> None:
    hits = engine.read("nobody", "crap, sh1t and crap again, rough sex").hits
    assert [(hit.entry.term, hit.start, hit.disguise) for hit in hits] == [
        ("crap", 0, ""),
        ("shit", 6, "leetspeak"),
        ("crap", 15, ""),
        ("rough sex", 27, ""),
        ("sex", 33, ""),
    ]


def test_what_is_matched_are_entries_and_never_the_text(house: House, engine: Engine) -> None:
    text = "my secret diary: S-H-1-T and motherfudge"
    results = engine.analyze("nobody", text).results
    assert results["profanity"].matched == ("shit", "motherf")
    terms = {entry.term for entry in lexicons.read_all(house.settings.lexicons_dir)}
    for name in ("profanity", "nsfw", "blocklist"):
        assert set(results[name].matched) <= terms


def test_the_score_follows_the_gravest_entry_and_grows_with_their_number(engine: Engine) -> None:
    one = engine.analyze("nobody", "crap").results["profanity"]
    two = engine.analyze("nobody", "crap shit").results["profanity"]
    graver = engine.analyze("nobody", "motherf").results["profanity"]
    assert (one.graded, graver.graded) == ("medium", "high")
    assert one.score < two.score < graver.score


def test_an_allowed_phrase_excuses_what_stands_in_it_and_nothing_else(engine: Engine) -> None:
    assert matched(engine, "I read Moby-Dick, then Moby  Dick again") == ()
    assert matched(engine, "I read Moby Dick, you dick") == ("dick",)
    assert matched(engine, "m0by dick") == ()
    # the blocklist ends a prompt: a phrase of a pack does not open it
    assert matched(engine, "the forbidden lake district", "blocklist") == ("forbidden lake",)


def test_the_language_of_a_text_says_which_words_are_innocent(engine: Engine) -> None:
    german = "Das Licht im Zimmer ist sehr hell und das Buch ist dick, sagt meine Schwester immer wieder."
    english = "Where the hell is the book that my sister keeps talking about all the time?"
    assert matched(engine, english) == ("hell",)
    assert matched(engine, german) == ("dick",)  # its own pack has it; the English hell is none in German
    assert matched(engine, "hell") == ("hell",)  # too short to tell
    assert matched(engine, "hell", spoken="de") == ()
    assert matched(engine, "hell", spoken="de-AT") == ()


def test_a_list_that_needs_its_language_waits_for_it(engine: Engine) -> None:
    french = "Il a dit que sa bite était plus grande que celle de tous les autres garçons du village."
    assert matched(engine, french) == ("bite",)
    assert matched(engine, "take a bite of this apple pie before it gets cold on the table") == ()
    assert matched(engine, "bite") == ()
    assert matched(engine, "bite", spoken="fr") == ("bite",)
    assert matched(engine, "connard") == ("connard",)  # every other list counts in every text


def test_the_operators_terms_are_the_blocklist(house: House, engine: Engine, alice: Person) -> None:
    house.db.write(lambda conn: keywords.add(conn, "teapot", org_id=alice.org_id, actor="operator:test"))
    house.db.write(lambda conn: keywords.add(conn, r"tea\d+", org_id=None, actor="operator:test", match="regex"))
    result = engine.analyze(alice.org_id, "A TEAPOT, tea42 and the forbidden lake").results["blocklist"]
    assert (result.score, result.graded) == (1.0, "critical")
    assert set(result.matched) == {"teapot", r"tea\d+", "forbidden lake"}
    assert engine.analyze("nobody", "a teapot").results["blocklist"].matched == ()


def test_a_change_made_by_another_process_counts_at_the_next_text(
    house: House, engine: Engine, settings: Settings
) -> None:
    assert engine.analyze("nobody", "a teapot").results["blocklist"].score == 0
    other = House(settings)
    other.db.write(lambda conn: keywords.add(conn, "teapot", org_id=None, actor="operator:test"))
    other.close()
    assert engine.analyze("nobody", "a teapot").results["blocklist"].score == 1


# --- evasion, transliteration ----------------------------------------------------------------------------------------


def score(engine: Engine, analyzer: str, text: str) -> float:
    return engine.analyze("nobody", text).results[analyzer].score


def test_an_ordinary_text_wears_no_disguise(engine: Engine) -> None:
    assert [text for text in SENTENCES if score(engine, "evasion", text) >= 0.4] == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a pa\u200bss\u200bword", "invisible letters"),
        ("\u202egnihtemos\u202c", "direction override"),
        ("my раssword is here", "alphabets mixed"),
        ("h̷̡̛e̸l̵̡̛l̸̡̛o̵", "stacked marks"),
        ("ｆｒｅｅ money", "styled letters"),
        ("w o r d s apart", "letters set apart"),
        ("fr33 m0n3y", "signs for letters"),
    ],
)
def test_a_disguise_is_named(engine: Engine, text: str, named: str) -> None:
    result = engine.analyze("nobody", text).results["evasion"]
    assert named in result.matched
    assert result.score >= 0.2


@pytest.mark.parametrize("disguised", ["sh1t", "s.h.i.t", "s\u200bhit", "ｓｈｉｔ", "shіt"])
def test_a_disguise_that_hid_a_term_is_graver(engine: Engine, disguised: str) -> None:
    harmless = disguised.replace("s", "k", 1).replace("ｓ", "ｋ")
    assert score(engine, "evasion", f"that {disguised} again") > score(engine, "evasion", f"that {harmless} again")
    assert "shit" in engine.analyze("nobody", f"that {disguised} again").results["evasion"].matched
    assert "shit" not in engine.analyze("nobody", "that shit again").results["evasion"].matched


def test_a_text_in_another_scripts_letters_is_named(engine: Engine) -> None:
    result = engine.analyze("nobody", "privet, kak dela? ya tebya ochen lyublyu, pochemu ty molchish").results
    assert result["transliteration"].matched == ("romanised Russian",)
    assert score(engine, "transliteration", "Привет, как дела? Почему ты молчишь?") == 0
    assert matched(engine, "сraр", "profanity") == ("crap",)
    assert matched(engine, "крап", "transliteration") == ()
    assert matched(engine, "шит", "transliteration") == ("shit",)
    assert matched(engine, "асс", "transliteration") == ()  # three letters: Russian has too many words of three


# --- patterns --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("you are such an idiot", "you-are-insult"),
        ("You're all just pathetic", "you-are-contempt"),
        ("kill yourself", "kill-yourself"),
        ("I hope you die slowly", "wish-of-harm"),
        ("I will find you and I'm going to kill you", "threat"),
        ("they are vermin", "less-than-human"),
        ("people like that deserve to be shot", "deserves-harm"),
        ("k1ll y0urself", "kill-yourself"),
        ("k.i.l.l yourself", "kill-yourself"),
        ("eres un imbécil", "eres-insulto"),
        ("te voy a matar", "amenaza"),
        ("ojalá te mueras", "deseo-de-mal"),
        ("tu es vraiment un abruti", "tu-es-insulte"),
        ("je vais te tuer", "menace"),
        ("va crever", "tue-toi"),
        ("du bist so ein Idiot", "du-bist-beleidigung"),
        ("ich werde dich umbringen", "drohung"),
        ("geh sterben", "bring-dich-um"),
    ],
)
def test_an_insult_or_a_threat_is_found_by_how_it_is_said(engine: Engine, text: str, named: str) -> None:
    result = engine.analyze("nobody", text).results["pattern_toxicity"]
    assert named in result.matched
    assert result.score >= 0.5


@pytest.mark.parametrize(
    "text",
    [
        "I am such an idiot",
        "please don't kill yourself, you matter",
        'He said "you are an idiot" and left',
        "She told me to kill myself, and I cried",
        "I will kill the process and start it again",
        "That joke killed me",
        "no te voy a matar",
        "ich bin so ein Idiot",
        "je suis vraiment un idiot",
        "You are right, and you are kind",
    ],
)
def test_what_is_said_of_oneself_or_denied_or_reported_weighs_little(engine: Engine, text: str) -> None:
    assert score(engine, "pattern_toxicity", text) < 0.45


# --- shape -----------------------------------------------------------------------------------------------------------


def test_the_table_has_rules_only_and_in_their_order() -> None:
    assert list(ANALYZERS) == [name for name in RULES if name in ANALYZERS]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0" * 10_000,
        "a\ud800b\udfff shit",
        "a" + "\u0301\u0327" * 500_000,
        "\u202e\u2066" * 5_000,
        "a" * 1_000_000,
        "shit " * 2_000,
        "s.h.i.t " * 1_250,
        "moby dick " * 1_000,
        "1a" * 5_000,
        "you are " * 1_250,
        "not " * 2_500 + "kill yourself",
        "аe" * 5_000,
        "привет " * 1_400,
    ],
)
def test_a_hostile_text_is_analysed_like_any_other(engine: Engine, text: str) -> None:
    analysis = engine.analyze("nobody", text)
    assert isinstance(analysis, Analysis)
    assert all(0 <= result.score <= 1 for result in analysis.results.values())
    assert all(len(result.matched) < 100 for result in analysis.results.values())


def test_long_lists_and_a_hostile_text_together_cost_no_more_than_both(house: House, engine: Engine) -> None:
    """100 thousand terms that all begin as the text goes on: the automaton still reads each character once."""
    terms = ["a" * 20 + f"{n:05}" for n in range(20_000)]
    house.db.write(lambda conn: keywords.import_lines(conn, terms, org_id=None, actor="operator:test"))
    engine.lexicons.prepare("nobody")
    began = time.monotonic()
    assert matched(engine, "a" * 10_000, "blocklist") == ()
    assert matched(engine, "a" * 20 + "00007", "blocklist") == (terms[7],)
    assert time.monotonic() - began < 5  # minutes, were it read once a term


def test_a_pack_that_is_wrong_is_named_with_what_is_wrong(tmp_path: Path) -> None:
    for body, said in (
        ('[[lists]]\ncategory = "x"\nterms = ["a"]\nanalyzer = "none"', "is no analyzer"),
        ('[[lists]]\ncategory = "x"\nterms = ["(a"]\nmatch = "regex"', "cannot be used"),
        ('[[lists]]\ncategory = "x"\nterms = ["a"]\nseverity = "awful"', "severity"),
        ('[[allow]]\nterm = ["a"]', "term"),
    ):
        (tmp_path / "en.toml").write_text(body)
        with pytest.raises(Misconfigured, match=rf"en\.toml.*{said}"):
            lexicons.read_all(tmp_path)
