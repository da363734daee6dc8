"""Training the heads: a small synthetic set through the real trainer, the figures, and the files that it leaves."""

import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.errors import Misconfigured
from appliance.inference import golden, manifest
from appliance.text import corpora, evaluate, figures, report, train
from appliance.text.blocklist import Blocklist, Entry
from appliance.text.corpora import LABELS, PROHIBITED, Sample
from appliance.text.train import Texts, Trained

SHIPPED = Path(__file__).parent.parent / "models" / "text-heads"
SIZE = 48


def embed(texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Words at random directions; a text longer than eight words has a window for each eight."""
    vectors: list[NDArray[np.float64]] = []
    owners: list[int] = []
    for index, text in enumerate(texts):
        words = text.split() or [""]
        for start in range(0, len(words), 8):
            seeds = [zlib.crc32(word.encode("utf-8", "replace")) for word in words[start : start + 8]]
            vector = np.sum([np.random.default_rng(seed).standard_normal(SIZE) for seed in seeds], axis=0)
            vectors.append(vector / np.linalg.norm(vector))
            owners.append(index)
    return np.array(vectors, np.float32), np.array(owners, np.intp)


def synthetic(seed: int = 0, source: str = "openai") -> list[Sample]:
    """Two categories, each told by one word; what else is said means nothing."""
    draw = np.random.default_rng(seed)
    fillers = [f"word{number}" for number in range(40)]
    found: list[Sample] = []
    for number in range(240):
        words = [str(word) for word in draw.choice(fillers, 5)]
        is_sexual, is_violent = number % 4 == 0, number % 4 == 1
        words += ["lewd"] * is_sexual + ["brutal"] * is_violent
        labels = {"sexual": is_sexual, "violence": is_violent, PROHIBITED: is_sexual or is_violent}
        if number % 7 == 0:
            del labels["violence"]  # not judged
        found.append(Sample(" ".join(words), labels, source))
    return found


@pytest.fixture(scope="module")
def texts() -> Texts:
    ordinary = [
        Sample(f"word{n} word{n + 1} word{n % 7}", dict.fromkeys(LABELS, False), "ordinary prompts") for n in range(60)
    ]
    return Texts.embedded([*synthetic(), *synthetic(1, "surge"), *ordinary], embed)


@pytest.fixture(scope="module")
def trained(texts: Texts) -> Trained:
    return train.train(texts)


def test_a_head_learns_its_label_and_no_other(trained: Trained) -> None:
    said = ("word1 lewd word2", "word1 brutal word2", "word1 word2")
    unseen = Texts.embedded([Sample(text, {}, "") for text in said], embed)
    sexual = unseen.logits(trained.heads.labels["sexual"])
    violence = unseen.logits(trained.heads.labels["violence"])
    assert sexual.argmax() == 0
    assert violence.argmax() == 1
    assert unseen.logits(trained.heads.labels[PROHIBITED]).argmin() == 2


def test_a_label_that_too_few_texts_carry_is_left_out_and_said_so(trained: Trained) -> None:
    assert set(trained.heads.labels) == {"sexual", "violence", PROHIBITED}
    assert trained.left_out["self-harm"] == 0
    assert set(trained.left_out) | set(trained.heads.labels) == set(LABELS)


def test_training_again_gives_the_same_bytes(texts: Texts, trained: Trained) -> None:
    assert train.encoded(train.train(texts).heads) == train.encoded(trained.heads)


def test_a_text_counts_by_its_highest_window(trained: Trained) -> None:
    dull = "word1 word2 word3 word4 word5 word6 word7 word8 "
    both = Texts.embedded([Sample(dull * 4, {}, ""), Sample(dull * 4 + "lewd lewd", {}, "")], embed)
    low, high = both.logits(trained.heads.labels["sexual"])
    assert high > low + 1


def test_held_out_probabilities_are_calibrated(texts: Texts, trained: Trained) -> None:
    judged = texts.where(lambda sample: PROHIBITED in sample.labels)
    scores = 1 / (1 + np.exp(-np.array([trained.logits[PROHIBITED][sample.text] for sample in judged.samples])))
    assert abs(scores.mean() - judged.truth(PROHIBITED).mean()) < 0.03


def test_a_disguise_is_on_the_side_of_the_fold_of_its_original() -> None:
    samples = synthetic()
    for sample, made in zip(samples, corpora.disguised(samples, 5), strict=True):
        assert train.fold_of(made) == train.fold_of(sample)
        assert made.labels == sample.labels


def test_there_is_nothing_to_learn_from_innocent_texts_alone() -> None:
    innocent = Texts.embedded([Sample(f"word{n}", {PROHIBITED: False}, "openai") for n in range(50)], embed)
    with pytest.raises(Misconfigured, match="only 0 prohibited texts"):
        train.train(innocent)


# --- figures ---------------------------------------------------------------------------------------------------------


def test_the_area_counts_pairs_in_order_and_ties_half() -> None:
    truth = np.array([True, True, False, False])
    assert figures.auc(truth, np.array([4.0, 3.0, 2.0, 1.0])) == 1
    assert figures.auc(truth, np.array([1.0, 2.0, 3.0, 4.0])) == 0
    assert figures.auc(truth, np.array([1.0, 1.0, 1.0, 1.0])) == 0.5
    assert figures.auc(truth, np.array([3.0, 1.0, 2.0, 0.0])) == 0.75
    assert np.isnan(figures.auc(np.array([True]), np.array([1.0])))


def test_recall_is_taken_where_that_many_innocent_texts_are_flagged() -> None:
    truth = np.array([True] * 4 + [False] * 100)
    scores = np.array([200.0, 96.5, 90.0, -1.0, *range(100)])
    assert figures.recall_at(truth, scores, 0.05) == 0.5


def test_an_interval_holds_its_figure_and_is_the_same_again() -> None:
    draw = np.random.default_rng(1)
    truth = np.arange(200) % 2 == 0
    scores = draw.standard_normal(200) + truth
    first = figures.measured(truth, scores, figures.auc)
    assert first.low < first.value < first.high
    assert first == figures.measured(truth, scores, figures.auc)


def test_a_rate_of_none_still_has_an_upper_end() -> None:
    found = figures.rate(np.zeros(100, bool))
    assert found.value == found.low == 0
    assert 0.02 < found.high < 0.05


# --- what is read ----------------------------------------------------------------------------------------------------


def test_an_absent_label_was_not_judged(tmp_path: Path) -> None:
    path = tmp_path / "openai.jsonl"
    path.write_text('{"prompt": "a", "S": 0, "V": 1}\n{"prompt": "b", "H": 0}\n{"prompt": "c"}\n')
    first, second = corpora.read(f"openai:{path}")
    assert first.labels == {"sexual": False, "violence": True, PROHIBITED: True}
    assert second.labels == {"hate": False, PROHIBITED: False}


@pytest.mark.parametrize(
    ("kind", "content", "labels"),
    [
        ("surge", "text,is_toxic\nx,Toxic\n", {"toxicity": True, PROHIBITED: True}),
        ("davidson", ",count,class,tweet\n0,3,1,x\n", {"hate": False, "toxicity": True, PROHIBITED: True}),
        ("hatecheck", "test_case,label_gold\nx,non-hateful\n", {"hate": False, PROHIBITED: False}),
        ("xstest", "prompt,label\nx,unsafe\n", {PROHIBITED: True}),
        ("pyrit", "# dataset_version=1\nassistant_response,human_score_1\nx,0.75\ny,0.25\n", {PROHIBITED: True}),
        ("lines", "# remark\nx\tAnimals\n", dict.fromkeys(LABELS, False)),
        ("jsonl", '{"text": "x", "labels": {"sexual": true}}\n', {"sexual": True, PROHIBITED: True}),
    ],
)
def test_each_kind_of_file_is_read(tmp_path: Path, kind: str, content: str, labels: dict[str, bool]) -> None:
    path = tmp_path / "data"
    path.write_text(content)
    [sample] = corpora.read(f"{kind}:{path}")
    assert sample.text == "x"
    assert sample.labels == labels


def test_of_letters_the_prose_is_read(tmp_path: Path) -> None:
    prose = "The lighthouse stands on a cliff above the sea, and gulls fly round it in the evening."
    (tmp_path / "1.txt").write_text(f"From: a\nSubject: b\n\n{prose}\n\n> {prose}\n\nShort.\n\n-----\n{prose}\n")
    [sample] = corpora.read(f"mail:{tmp_path}")
    assert sample.text == prose


@pytest.mark.parametrize("reference", ["surge", "nothing:x", "surge:/does/not/exist"])
def test_a_reference_that_cannot_be_read_is_refused(reference: str) -> None:
    with pytest.raises(Misconfigured):
        corpora.read(reference)


def test_a_file_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(Misconfigured, match=r"data\.csv: not of the kind 'surge'"):
        corpora.read(f"surge:{path}")


def test_the_shipped_templates_fill_and_name_known_labels() -> None:
    ours = corpora.prompts(SHIPPED / "prompts.toml", 1)
    made = ours.taught
    assert ours == corpora.prompts(SHIPPED / "prompts.toml", 1)
    assert len({sample.text for sample in made if sample.source == "ordinary prompts"}) > 5000
    assert not [sample.text for sample in made if re.search(r"[{}]", sample.text)]
    assert {label for sample in made for label in sample.labels} <= set(LABELS)
    kept_apart = [{sample.text for sample in part} for part in (made, ours.development, ours.unseen)]
    assert len(set.union(*kept_apart)) == sum(map(len, kept_apart))


def test_sentences_in_several_languages_are_one_set_each(tmp_path: Path) -> None:
    path = tmp_path / "sentences.tsv"
    path.write_text("# a remark\nlabels\ten\tfr\nhate,toxicity\tbad people\tmauvaises gens\n\tgood day\tbonjour\n")
    bad, mauvais, _, bonjour = corpora.read(f"parallel:{path}")
    assert (bad.source, mauvais.source) == ("sentences en", "sentences fr")
    assert bad.labels["hate"]
    assert bad.labels["toxicity"]
    assert bad.labels[PROHIBITED]
    assert not bad.labels["sexual"]
    assert "harassment" not in bad.labels, "what is hateful may well harass too"
    assert bonjour.labels == dict.fromkeys(LABELS, False)


def test_comments_are_put_together_by_language_and_none_of_them_is_judged_by() -> None:
    folder = SHIPPED.parent / "text-heads-multilingual"
    made = corpora.read(f"templates:{folder / 'comments.toml'}")
    assert made == corpora.read(f"templates:{folder / 'comments.toml'}")
    assert {sample.source for sample in made} == {f"{corpora.PUT_TOGETHER} {code}" for code in ("en", "es", "fr", "de")}
    assert not [sample.text for sample in made if re.search(r"[{}]", sample.text)]
    judged = corpora.read(f"parallel:{folder / 'sentences.tsv'}")
    assert not {sample.text.casefold() for sample in made} & {sample.text.casefold() for sample in judged}
    for language in ("en", "es", "fr", "de"):
        own = [sample for sample in judged if sample.source == f"sentences {language}"]
        assert len(own) >= 150
        for label in ("harassment", "hate", "self-harm", "sexual", "violence"):
            assert sum(sample.labels.get(label, False) for sample in own) >= 20


@pytest.mark.parametrize(
    ("kind", "content", "found"),
    [
        (
            "germeval",
            "Guten Tag|LBR|alle\tOTHER\tOTHER\nDoof\tOFFENSE\tINSULT\n",
            [("Guten Tag alle", False), ("Doof", True)],
        ),
        (
            "mlma",
            "tweet,sentiment\nbonjour,normal\nnul,offensive_hateful\nbof,fearful\nhm,abusive_normal\n",
            [("bonjour", False), ("nul", True)],
        ),
        (
            "offendes",
            'comment\tlabel\n"Hola\tNO\nFea\tOFP\nJoder\tNOE\n',
            [('"Hola', False), ("Fea", True), ("Joder", False)],
        ),
    ],
)
def test_other_peoples_sets_are_read(tmp_path: Path, kind: str, content: str, found: list[tuple[str, bool]]) -> None:
    path = tmp_path / "set"
    path.write_text(content)
    assert [(one.text, one.labels[PROHIBITED]) for one in corpora.read(f"{kind}:{path}")] == found


# --- what is left behind ---------------------------------------------------------------------------------------------


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "text-heads"
    folder.mkdir()
    upper = (SHIPPED / "manifest.toml").read_text().partition(report.MARKER)[0]
    (folder / "manifest.toml").write_text(upper + report.MARKER + "old figures\n")
    return folder


def test_the_files_agree_with_each_other(out: Path, texts: Texts, trained: Trained) -> None:
    plain = [Sample(f"word{n} word{n + 9}", dict.fromkeys(LABELS, False), "people's") for n in range(30)]
    never = [Sample(f"lewd word{n}", {PROHIBITED: True}, "never seen") for n in range(20)]
    spoken = [Sample(f"word{n} word{n + 3}", dict.fromkeys(LABELS, False), "everyday") for n in range(40)]
    looked_at = [Sample(f"brutal word{n}", {PROHIBITED: True}, "looked at") for n in range(20)]
    found = evaluate.evaluate(
        trained,
        texts,
        [Texts.embedded(never, embed)],
        [Texts.embedded(looked_at, embed)],
        [Texts.embedded(plain, embed)],
        [Texts.embedded(spoken, embed)],
        Blocklist.build([Entry("brutal")]),
        judge=lambda asked: np.array(["lewd" in text for text in asked], float),
        judged_each=20,
    )
    report.write(out, trained, found, embed)

    written = manifest.read(out)
    assert {use.label: use.threshold for use in written.answers} == found.thresholds
    assert {figure.data for figure in written.evaluation} >= {"openai", "surge", "never seen", "people's"}
    assert next(file.size_bytes for file in written.files if file.name == "heads.json") == len(
        train.encoded(trained.heads)
    )
    assert all("development set" in one.note for one in written.evaluation if one.data == "looked at")
    assert {one.data for one in found.unseen} == {"never seen"}
    assert {each.label: each.at for each in written.levels} == found.levels
    assert set(found.levels) == set(trained.heads.labels)
    assert all(low <= middle <= high for low, middle, high in found.levels.values())
    assert set(found.everyday) == {"everyday"}
    read = golden.read(out.parent, "text-heads")
    assert read is not None
    assert all(set(case.scores) == set(trained.heads.labels) for case in read.cases)
    assert f"`{PROHIBITED}` {found.thresholds[PROHIBITED]:.3f}" in (out / "README.md").read_text()

    rows = {(row.data, row.pipeline): row for row in found.pipelines}
    assert rows["never seen", "blocklist"].recall == 0
    assert (rows["never seen", "heads"].recall or 0) > 0.8
    assert rows["openai", "blocklist"].recall == 0.5
    assert rows["openai", "blocklist"].false_flags == 0
    assert rows["openai", "judge (sample)"].flagged + rows["openai", "judge (sample)"].innocent == 20


def test_without_peoples_prompts_our_own_set_the_threshold(texts: Texts, trained: Trained) -> None:
    found = evaluate.evaluate(trained, texts, [], [], [], [], Blocklist.build([]))
    assert all(0 < limit < 1 for limit in found.thresholds.values())
    assert found.ordinary == []
    assert "our own making" in found.thresholds_from


def test_a_manifest_without_the_marker_is_left_alone(out: Path, texts: Texts, trained: Trained) -> None:
    (out / "manifest.toml").write_text("name = 'mine'\n")
    found = evaluate.evaluate(trained, texts, [], [], [], [], Blocklist.build([]))
    with pytest.raises(Misconfigured, match="is missing"):
        report.write(out, trained, found, embed)
    assert (out / "manifest.toml").read_text() == "name = 'mine'\n"
    assert not (out / "heads.json").exists()


def test_the_shipped_heads_are_those_of_the_shipped_manifest() -> None:
    written = manifest.read(SHIPPED)
    assert written.evaluation
    assert json.loads((SHIPPED / "heads.json").read_bytes())["labels"].keys() >= {use.label for use in written.answers}
