"""Spam: the model that is shipped, and how one is made."""

from pathlib import Path

import numpy as np
import pytest

from appliance.errors import Misconfigured
from appliance.text import language, normalize, spam, spamtrain
from appliance.text.analyzers import spam as analyzer
from appliance.text.reading import Reading
from appliance.text.spamtrain import Text

SHIPPED = Path(__file__).parent.parent / "models" / "spam"


def read(text: str) -> Reading:
    return Reading(text, normalize.views(text), [], language.detect(text))


@pytest.mark.parametrize(
    "text",
    [
        "Congratulations, you have been chosen to receive a free phone! Call 09061234567 now to claim, £1.50 per min",
        "URGENT! Your mobile number was awarded a £2000 prize. To claim call 09058094455 from a land line",
        "Make money at home! Earn $5000 a week with this amazing offer, 100% guaranteed, click http://example.com now",
    ],
)
def test_advertising_is_spam(text: str) -> None:
    found = analyzer.look(read(text))
    assert found.score >= 0.8
    assert found.matched == ("model",)


@pytest.mark.parametrize(
    "text",
    [
        "ok",
        "free tonight?",
        "call me when you get home, mum made dinner and there is plenty left for you",
        "The free parking is behind the building, please text me when you arrive",
        "I won the match yesterday and my prize was a cup of tea",
        "can you send the money for the tickets before friday, it was 20 euros each",
        "lol that was the best game I have played this week",
        "¿vienes a la fiesta esta noche? compra pan y algo de beber por favor",
        "Kannst du mich morgen um acht anrufen, ich bin dann zu Hause und habe Zeit",
    ],
)
def test_short_innocent_texts_are_not(text: str) -> None:
    assert analyzer.look(read(text)).score < 0.6


@pytest.mark.parametrize(
    "text", ["", "\ud800 \x00", "🙂" * 250_000, "a@" * 50_000, "1 " * 100_000, "$1," * 50_000, "\u0301" * 1_000_000]
)
def test_odd_texts_have_a_score(text: str) -> None:
    assert 0 <= analyzer.look(read(text[:20_000])).score <= 1
    assert len(spam.features(text)) <= 2 * 160 + 1


def test_what_is_shipped_is_small_and_has_its_figures() -> None:
    assert (SHIPPED / spam.FILE).stat().st_size < 100_000
    figures = (SHIPPED / "figures.md").read_text(encoding="utf-8")
    assert "messages, held out | AUC" in figures
    assert "trained without" in figures


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"weights\.npy"):
        spam.Model.load(tmp_path)
    np.save(tmp_path / spam.FILE, np.zeros(7, np.float16))
    with pytest.raises(Misconfigured, match="7"):
        spam.Model.load(tmp_path)


def test_a_model_is_trained_on_folders_and_lines_and_knows_them_apart(tmp_path: Path) -> None:
    for folder, said in (("spam-1", "win a cheap prize now"), ("easy-ham-1", "see the patch for the kernel below")):
        (tmp_path / folder).mkdir()
        for number in range(40):
            head = f"Subject: Re: letter {number}\nContent-Type: text/html"
            letter = f"{head}\n\n<p>{said} w{number} and &amp; more</p>\n> old\n"
            (tmp_path / folder / f"{number}.txt").write_text(letter)
    lines = tmp_path / "messages.tsv"
    said = [f"spam\tcall w{n} now to win a prize" for n in range(40)] + [
        f"ham\tsee you at w{n} then" for n in range(40)
    ]
    lines.write_text("\n".join(said) + "\n")

    taught = spamtrain.read(tmp_path, lines)
    assert len(taught) == 160
    assert {one.source for one in taught} == {"mail", "messages"}
    assert all("<p>" not in one.text and "> old" not in one.text for one in taught)
    trained = spamtrain.train(taught, [Text("the kernel is below", False, "others")])
    (tmp_path / spam.FILE).write_bytes(trained.weights)
    model = spam.Model.load(tmp_path)
    assert model.score("win a cheap prize now and more") > model.score("see the patch for the kernel then")
    table = spamtrain.markdown(trained.figures)
    assert "mail, held out" in table
    assert "others | false flags at 0.6" in table


def test_lines_that_are_not_labelled_are_refused(tmp_path: Path) -> None:
    (tmp_path / "spam-1").mkdir()
    (tmp_path / "spam-1" / "1.txt").write_text("Subject: a\n\nfour words are here now\n")
    (tmp_path / "lines").write_text("perhaps\thello\n")
    with pytest.raises(Misconfigured, match="ham or spam"):
        spamtrain.read(tmp_path, tmp_path / "lines")
    with pytest.raises(Misconfigured, match="no folders"):
        spamtrain.read(tmp_path / "spam-1", tmp_path / "lines")


@pytest.mark.parametrize(
    "said",
    [
        "The ferry leaves at seven and comes back before it gets dark",
        "FREE TICKETS ONCE, don't l’été _x_y_ ½ Ⅷ ÀÉSS ß² 日本\na-b.c 'quoted' ٭",
        "WORD " * 300,
    ],
)
def test_a_text_of_words_alone_is_read_as_the_same_words_among_signs(said: str) -> None:
    assert set(spam.features(said)) <= set(spam.features(said + " !"))
    assert set(spam.features(said)) <= set(spam.features("! " + said))
