"""`customhouse evaluate`: labelled files in, figures out, nothing of a text in either."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import brier_score_loss, confusion_matrix, roc_auc_score

from appliance.commands.evaluate import evaluate as command
from appliance.errors import Misconfigured
from appliance.house import House
from appliance.moderations import evaluations
from appliance.policies import rows as policies
from appliance.policies.version import Body, Rule, Thresholds
from appliance.settings import Settings
from appliance.text import evaluation, labelled
from appliance.text.analysis import Analysis, Result
from appliance.text.evaluation import EVERY, Report
from appliance.text.labelled import Columns, Labelled
from appliance.text.language import Language
from tests.cast import Person

SECRET = "zyzzyva"
"""Stands in every text, and nowhere in what comes out."""


def _write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


# --- reading ----------------------------------------------------------------------------------------------


def test_csv_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", 'text,harassment,spam,note\n"one,\ntwo",1,0,x\nthree,,yes,y\nfour,,,z\n')
    assert labelled.read(path, Columns()) == [
        Labelled(3, "one,\ntwo", {"harassment": True, "spam": False}),
        Labelled(4, "three", {"spam": True}),
    ]


def test_columns_may_have_other_names_and_a_value_that_means_yes(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.tsv", "body\tlang\tverdict\nhola\tes\tToxic\nbonjour\tfr\tNot Toxic\n")
    columns = Columns(text="body", language="lang", labels={"verdict": "toxicity:Toxic"})
    assert [(row.language, row.labels) for row in labelled.read(path, columns)] == [
        ("es", {"toxicity": True}),
        ("fr", {"toxicity": False}),
    ]


def test_a_column_named_language_is_the_language_and_no_label(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", "text,hate,language\nhola,1,es\nhello,0,\n")
    assert [(row.language, row.labels) for row in labelled.read(path, Columns())] == [
        ("es", {"hate": True}),
        (None, {"hate": False}),
    ]


def test_json_lines_may_hold_their_labels_below_or_beside_the_text(tmp_path: Path) -> None:
    rows = [{"text": "a", "labels": {"hate": True}}, {"prompt": "b", "S": 0, "H2": 1}, {"text": "c", "flagged": 0.7}]
    path = _write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert [row.labels for row in labelled.read(path, Columns())] == [
        {"hate": True},
        {"sexual": False, "hate/threatening": True},
        {"decision": True},
    ]


@pytest.mark.parametrize(
    ("name", "content", "columns", "said"),
    [
        ("a.csv", "words,spam\nx,1\n", Columns(), "line 2: no column text or prompt"),
        ("a.csv", f"text,spam\n{SECRET},perhaps\n", Columns(), "line 2: spam is neither yes nor no"),
        ("a.csv", "text,other\nx,1\n", Columns(), "no row has a text and a label"),
        ("a.csv", "text,q\nx,1\n", Columns(labels={"q": "rudeness"}), "there is no label 'rudeness'"),
        ("a.jsonl", f'{{"text": "{SECRET}", \n', Columns(), "line 1: not JSON"),
        ("a.jsonl", "[1]\n", Columns(), "line 1: not a JSON object"),
        ("a.csv", f"text,spam\n{SECRET * 2000},1\n", Columns(), "line 2: the text is over 10,000 characters"),
    ],
)
def test_what_cannot_be_read_is_named_by_its_line(
    tmp_path: Path, name: str, content: str, columns: Columns, said: str
) -> None:
    with pytest.raises(Misconfigured, match=said) as raised:
        labelled.read(_write(tmp_path / name, content), columns)
    assert SECRET not in raised.value.message


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,spam\n\xff\xfe,1\n")
    with pytest.raises(Misconfigured, match="not UTF-8"):
        labelled.read(tmp_path / "a.csv", Columns())


# --- figures ----------------------------------------------------------------------------------------------


def _sample(count: int = 400) -> tuple[list[Labelled], np.ndarray, np.ndarray]:
    draw = np.random.default_rng(7)
    truth = draw.random(count) < 0.4
    scores = np.clip(draw.normal(np.where(truth, 0.6, 0.35), 0.2), 0, 1)
    return [Labelled(i, f"{SECRET} {i}", {"spam": bool(truth[i])}) for i in range(count)], truth, scores


def test_the_figures_are_those_of_scikit_learn() -> None:
    rows, truth, scores = _sample()
    report = evaluation.evaluate(rows, ["en"] * len(rows), {"spam": scores}, {"spam": {"review": 0.5}}, {})
    whole = next(one for one in report.figures if one.language == EVERY)
    assert whole.auc is not None
    assert whole.auc.value == pytest.approx(roc_auc_score(truth, scores))
    assert whole.auc.low < whole.auc.value < whole.auc.high
    assert whole.brier == pytest.approx(brier_score_loss(truth, scores), abs=1e-4)
    [at] = whole.at
    expected = confusion_matrix(truth, scores >= 0.5).ravel().tolist()
    assert [at.true_negatives, at.false_positives, at.false_negatives, at.true_positives] == expected
    assert at.precision is not None
    assert at.precision.value == pytest.approx(at.true_positives / (at.true_positives + at.false_positives))


def test_the_worst_misses_are_named_by_line_and_hash() -> None:
    rows, truth, scores = _sample()
    report = evaluation.evaluate(rows, ["en"] * len(rows), {"spam": scores}, {}, {})
    [worst, *_] = report.figures[0].missed
    lowest = min(np.flatnonzero(truth), key=lambda i: scores[i])
    assert (worst.place, worst.hash) == (rows[lowest].place, evaluation.hash_of(rows[lowest].text))
    assert SECRET not in msgspec.json.encode(report).decode()


def test_what_the_lowest_threshold_has_right_is_no_miss() -> None:
    rows, truth, scores = _sample()
    limits = {"spam": {"warn": 0.3, "block": 0.9}}
    [whole, *_] = evaluation.evaluate(rows, ["en"] * len(rows), {"spam": scores}, limits, {}).figures
    assert whole.missed
    assert all(one.score < 0.3 for one in whole.missed)
    assert whole.false_alarms
    assert all(one.score >= 0.3 for one in whole.false_alarms)
    apart = np.where(truth, 0.95, 0.1)
    [whole, *_] = evaluation.evaluate(rows, ["en"] * len(rows), {"spam": apart}, limits, {}).figures
    assert (whole.missed, whole.false_alarms) == ([], [])


def test_languages_have_figures_of_their_own_where_there_are_enough_texts() -> None:
    rows, _, scores = _sample()
    languages = ["fr" if i < 200 else "de" if i < 205 else "en" for i in range(len(rows))]
    report = evaluation.evaluate(rows, languages, {"spam": scores}, {}, {})
    assert [one.language for one in report.figures] == [EVERY, "en", "fr"]
    assert any(sentence.startswith("spam, de:") for sentence in report.too_few)


def test_texts_that_were_not_scored_do_not_count_and_labels_that_nothing_answers_are_said() -> None:
    rows, _, scores = _sample()
    scores[:100] = np.nan
    more = [msgspec.structs.replace(row, labels={**row.labels, "hate": True}) for row in rows]
    report = evaluation.evaluate(more, ["en"] * len(rows), {"spam": scores}, {}, {})
    assert report.figures[0].texts == 300
    assert report.too_few == ["hate: nothing that is installed answers it"]


def test_suggested_thresholds_keep_to_the_false_flags_that_were_allowed() -> None:
    rows, truth, scores = _sample(2000)
    allowed = {"warn": 0.05, "review": 0.01, "block": 0.0001}
    [found] = evaluation.suggest(rows, {"spam": scores}, allowed)
    innocent = scores[~truth]
    assert found.warn is not None
    assert found.review is not None
    assert 0.03 < (innocent >= found.warn).mean() <= 0.05
    assert (innocent >= found.review).mean() <= 0.01
    assert found.block is None, "so small a part of so few texts cannot be told"


def test_a_suggestion_holds_where_many_innocent_texts_have_one_score() -> None:
    rows = [Labelled(i, str(i), {"spam": False}) for i in range(100)]
    scores = np.array([0.5] * 50 + [0.1] * 50)
    [found] = evaluation.suggest(rows, {"spam": scores}, {"warn": 0.1, "review": 0.05, "block": 0.02})
    assert found.warn is not None
    assert (scores >= found.warn).mean() <= 0.1


def test_the_decision_is_judged_as_the_policy_goes() -> None:
    body = Body(analyzers={"spam": Rule(thresholds=Thresholds(warn=0.3, block=0.9)), "url": Rule(enabled=False)})
    spoken = Language("en", 1.0)
    analyses = [Analysis(spoken, {"spam": Result(score), "url": Result(1.0)}) for score in (0.1, 0.4, 0.95, 0.2)]
    rows = [Labelled(i, str(i), {"decision": i in (1, 2)}) for i in range(4)]
    [figures] = [one for one in evaluations.evaluate(body, rows, analyses).figures if one.language == EVERY]
    assert figures.auc is not None
    assert figures.auc.value == 1.0
    assert {at.name: (at.true_positives, at.false_positives) for at in figures.at} == {
        "warn": (2, 0),
        "review": (1, 0),
        "block": (1, 0),
    }


# --- the command ----------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    lines = [json.dumps({"text": f"{SECRET} {i}", "blocklist": i % 2}) for i in range(60)]
    return _write(tmp_path / "labelled.jsonl", "\n".join(lines))


@pytest.fixture
def home(house: House, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(house.settings.home))
    return house.settings


def test_the_command_says_figures_and_no_text(home: Settings, data: Path) -> None:
    ran = CliRunner().invoke(command, [str(data), "--json", "--suggest-thresholds"])
    assert ran.exit_code == 0, ran.output
    report = msgspec.json.decode(ran.stdout, type=Report)
    assert report.figures[0].label == "blocklist"
    assert (report.figures[0].texts, report.figures[0].flagged) == (60, 30)
    assert SECRET not in ran.output
    table = CliRunner().invoke(command, [str(data), "--markdown"])
    assert "| blocklist | all | 30 of 60 |" in table.stdout


def test_the_table_splits_no_word_and_says_nothing_of_what_cannot_be_told(
    home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    labels = {"pattern_toxicity": True, "hate/threatening": True, "spam": True}
    lines = [json.dumps({"text": f"{SECRET} {i}", "language": "en", **labels}) for i in range(12)]
    file = _write(tmp_path / "flagged.jsonl", "\n".join(lines))
    told = CliRunner().invoke(command, [str(file)])
    assert told.exit_code == 0, told.output
    for word in ("label", "language", "calibration", "precision", "pattern_toxicity", "1.000", "0.000"):
        assert word in told.stdout
    assert "nan" not in told.stdout
    assert "nan" not in CliRunner().invoke(command, [str(file), "--markdown"]).stdout


def test_a_report_is_kept_beside_the_policy_version(home: Settings, house: House, alice: Person, data: Path) -> None:
    ran = CliRunner().invoke(command, [str(data), "--org", "A", "--save"])
    assert ran.exit_code == 0, ran.output
    version = policies.in_force(house.db.reader(), alice.org_id, None)
    assert version is not None
    [kept] = evaluations.of_version(house.db.reader(), alice.org_id, version.id)
    assert (kept.data, kept.texts) == ("labelled.jsonl", 60)
    assert evaluations.get(house.db.reader(), kept.id) == kept
    row = house.db.reader().execute("SELECT * FROM policy_evaluation").fetchone()
    assert SECRET not in str(tuple(row))
    audited = house.db.reader().execute("SELECT 1 FROM audit WHERE action = 'policy.evaluated'").fetchone()
    assert audited is not None
    listed = CliRunner().invoke(command, ["--saved", "--org", "A"])
    assert "labelled.jsonl" in listed.stdout


@pytest.mark.parametrize(
    "arguments",
    [["--save"], ["--false-flags", "0.1"], ["--false-flags", "0.01,0.05,0.1"], ["--label", "spam"], ["--policy", "x"]],
)
def test_wrong_usage_is_refused(home: Settings, data: Path, arguments: list[str]) -> None:
    assert CliRunner().invoke(command, [str(data), *arguments]).exit_code != 0


def test_without_a_file_it_says_so(home: Settings) -> None:
    ran = CliRunner().invoke(command, [])
    assert ran.exit_code == 2
    assert "name the file" in ran.output
