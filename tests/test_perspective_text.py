"""What of an HTML comment is read, its sentences, and the way back to offsets."""

import time

import pytest

from appliance.api import perspective_attributes as attributes
from appliance.api.perspective_text import plain, sentences, stripped
from appliance.text.analysis import Analysis, Result
from appliance.text.language import Language


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("a <b>bold</b> word", "a bold word"),
        ("<p>one</p><p>two</p>", "\none\n\ntwo\n"),
        ("x &lt; y &amp; z&nbsp;", "x < y & z\xa0"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("<!-- <b>hidden</b> -->shown", "shown"),
        ("<script>if (a<b) { c }</script>seen<style>p{}</style>", "seen"),
        ("<SCRIPT>never", ""),
        ("a <b unclosed", "a <b unclosed"),
        ("&notanentity &#x1F642; &#0;", "¬anentity 🙂 �"),
        ("<a href='x'>l</a>", "l"),
        ("", ""),
    ],
)
def test_html_is_read_as_a_browser_shows_it(sent: str, read: str) -> None:
    assert stripped(sent).text == read


@pytest.mark.parametrize("sent", ["a <b>bold</b> &amp; word", "<p>İ one</p>two", "&lt;&gt;<i>x</i>", "🙂<b>é</b>"])
def test_every_character_leads_back_to_what_was_sent(sent: str) -> None:
    found = stripped(sent)
    assert len(found.text) == len(found.starts) == len(found.ends)
    for index, sign in enumerate(found.text):
        begin, end = found.span(index, index + 1)
        assert 0 <= begin < end <= len(sent)
        assert sign == "\n" or sent[begin:end] == sign or sent[begin] == "&"


@pytest.mark.parametrize("piece", ["<", "<a", "<!--", "&", "<script>", "<p>", "&#", "</", "\u0301", ". "])
def test_no_markup_takes_long(piece: str) -> None:
    text = piece * (20_480 // len(piece))
    began = time.process_time()
    found = stripped(text)
    sentences(found.text)
    assert time.process_time() - began < 2  # linear: it takes some hundredths


def test_sentences_end_where_one_would_end_them() -> None:
    text = 'He said "no." Then 3.5 metres... and so on! 何ですか。\n\nNew line\n  '
    assert [text[begin:end] for begin, end in sentences(text)] == [
        'He said "no."', "Then 3.5 metres...", "and so on!", "何ですか。", "New line",
    ]  # fmt: skip


def test_a_thousand_sentences_are_asked_in_a_hundred_pieces_at_most() -> None:
    text = "No. " * 1001
    spans = sentences(text)
    assert len(spans) <= 100
    assert (spans[0][0], spans[-1][1]) == (0, len(text) - 1)


def test_nothing_has_no_sentences() -> None:
    assert sentences(" \n ") == []
    assert plain("").span(0, 0) == (0, 0)


def test_the_highest_way_counts_and_of_a_way_the_lowest_part() -> None:
    told = {"hate/threatening": 0.1, "violence": 0.9, "toxicity": 0.6, "harassment": 0.2}
    threat = attributes.ATTRIBUTES["THREAT"].score(Analysis(Language("en", 1.0), {}, told))
    assert threat == 0.6
    assert attributes.ATTRIBUTES["PROFANITY"].score(Analysis(Language("en", 1.0), {"profanity": Result(0.4)})) == 0.4


def test_what_nothing_answered_has_no_score() -> None:
    assert attributes.ATTRIBUTES["IDENTITY_ATTACK"].score(Analysis(Language("en", 1.0), {}, {"hate": 0.3})) is None


def test_every_name_of_perspective_is_known_and_no_other() -> None:
    for name in (*attributes.ATTRIBUTES, *attributes.UNCOVERED):
        assert attributes.is_known(name)
        assert attributes.is_known(f"{name}@4")
    assert attributes.find("FLIRTATION") is None
    assert not attributes.is_known("SARCASM")
    assert attributes.find("TOXICITY_EXPERIMENTAL") is attributes.find("TOXICITY")
