"""Models as data: every manifest can be read, and says where its files come from, on what terms, what they answer."""

import json
import os
from pathlib import Path

import msgspec
import pytest

from appliance import categories
from appliance.inference import golden, manifest, runtime
from appliance.inference.manifest import Manifest, Task
from appliance.inference.wire import Answer, Problem
from appliance.settings import Inference, Settings

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "models"
KNOWN = manifest.read_all(MODELS)
every_model = pytest.mark.parametrize("name", list(KNOWN))
STARTER = [name for name, each in KNOWN.items() if each.set == "starter"]


def test_the_starter_set_is_whole() -> None:
    assert set(STARTER) == {
        "opennsfw",
        "image-safety-s",
        "nsfwjs",
        "faces-age",
        "text-heads",
        "text-heads-multilingual",
        "language",
        "smollm2-135m",
    }


@every_model
def test_a_manifest_names_sources_digests_and_licence(name: str) -> None:
    one = KNOWN[name]
    assert one.title
    assert one.licence
    assert one.set in ("starter", "recommended", "optional")
    assert len((MODELS / name / "LICENSE").read_text()) > 300
    assert bool(one.files) == (one.runtime != "library")
    for file in one.files:
        for part in file.fetched:
            assert part.sha256 or part.origin.scheme == "hf"
    if one.set == "starter":
        assert all(file.sha256 and file.size_bytes for file in one.files), "works without asking anybody"


@every_model
def test_an_adapter_opens_every_model_that_has_files(name: str) -> None:
    assert runtime.can_open(KNOWN[name]) == bool(KNOWN[name].files)


@every_model
def test_a_model_answers_labels_that_it_has_for_categories_that_there_are(name: str) -> None:
    known = categories.load(ROOT / "config" / "categories.toml")
    one = KNOWN[name]
    for use in one.answers:
        assert use.category in known
        assert 0 < use.threshold < 1
        assert one.output is None or use.label in one.output.labels


def test_every_visual_source_of_a_category_is_recommended_by_its_model() -> None:
    for slug, category in categories.load(ROOT / "config" / "categories.toml").items():
        for source in category.classifiers("nsfw") + category.classifiers("vlm"):
            uses = [(use.category, use.label, use.threshold) for use in KNOWN[source.model].answers]
            for label in source.labels:
                assert (slug, label, source.threshold) in uses, source.model


@pytest.mark.parametrize(
    "name", [name for name, each in KNOWN.items() if each.task in (Task.TEXT_JUDGE, Task.VISION_JUDGE)]
)
def test_a_judge_says_whether_it_is_capable_and_what_could_not_be_checked(name: str) -> None:
    one = KNOWN[name]
    assert one.judge is not None
    assert one.notes
    if one.set == "recommended":
        assert all(file.source.startswith("hf:") for file in one.files)
        assert "could not be" in one.notes or "have not been" in one.notes
    if one.task is Task.VISION_JUDGE:
        assert [file.name.startswith("mmproj") for file in one.files] == [False, True]


def test_no_weights_are_among_the_manifests() -> None:
    for path in MODELS.rglob("*"):
        assert path.suffix not in (".onnx", ".gguf", ".bin", ".safetensors", ".pt")
        assert path.stat().st_size < 1_000_000, path


def test_every_photograph_has_its_source_and_is_small() -> None:
    sources = (MODELS / "golden" / "SOURCES.md").read_text()
    for path in (MODELS / "golden").glob("*.jpg"):
        assert path.name in sources
        assert path.stat().st_size < 60_000


# --- golden vectors ---------------------------------------------------------------------------------------------------


@every_model
def test_golden_vectors_ask_what_the_task_takes(name: str) -> None:
    one = KNOWN[name]
    vectors = golden.read(MODELS, name)
    assert vectors is not None
    assert vectors.cases
    for case in vectors.cases:
        assert case.scores or case.detail
        assert golden.item(one, case, MODELS / "golden")
        if one.output is not None:
            assert set(case.scores) <= set(one.output.labels)
        if one.task is Task.VISION_JUDGE:
            assert set(case.scores) <= {question.id for question in case.questions}


def test_a_model_without_golden_vectors_has_none(tmp_path: Path) -> None:
    assert golden.read(tmp_path, "toy") is None


@pytest.mark.parametrize("text", ["{", '{"made_with": "x", "cases": [{"scores": {"a": "high"}}]}', "[]"])
def test_golden_vectors_that_cannot_be_read_are_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/golden.json").write_text(text)
    with pytest.raises(Exception, match=r"golden\.json"):
        golden.read(tmp_path, "toy")


def toy(cases: list[golden.Case], *answers: Answer) -> list[bool]:
    one = Manifest("toy", "A toy", Task.LANGUAGE, "library", "MIT")
    asked: list[str] = []

    def ask(texts: object) -> list[Answer]:
        asked.extend(texts)  # pyright: ignore[reportArgumentType] a sequence of texts
        return list(answers)

    findings = golden.check(one, golden.Golden("here", cases), MODELS / "golden", ask)
    assert asked == [case.text for case in cases]
    return [finding.holds for finding in findings]


def test_a_score_holds_within_its_tolerance_only() -> None:
    cases = [golden.Case({"a": 0.5, "b": golden.Between(at_least=0.6)}, text="one", tolerance=0.1)]
    assert toy(cases, Answer(scores={"a": 0.59, "b": 0.6})) == [True, True]
    assert toy(cases, Answer(scores={"a": 0.39, "b": 0.59})) == [False, False]


def test_a_score_that_is_missing_or_no_number_does_not_hold() -> None:
    problem = Problem("MODEL_REFUSED", "broken", passing=False)
    cases = [
        golden.Case({"a": 0.5}, text="one"),
        golden.Case({"a": 0.5}, text="two"),
        golden.Case({"a": 0.5}, text="3"),
    ]
    assert toy(cases, Answer(), Answer(scores={"a": float("nan")}), Answer(problem=problem)) == [False, False, False]


def test_figures_beside_the_scores_are_held_too() -> None:
    cases = [golden.Case(detail={"faces": 1.0}, text="one")]
    assert toy(cases, Answer(scores={"under_18": 0.0}, detail={"faces": 2.0})) == [False]


def test_drawn_pictures_are_the_same_everywhere() -> None:
    found = {name: golden.picture(f"drawn:{name}", MODELS) for name in ("dunes", "sky", "noise")}
    assert {(each.width, each.height, len(each.rgb)) for each in found.values()} == {(320, 240, 230_400)}
    assert found["noise"].rgb[:8].hex() == "8b4ae5f1a94106a0"
    assert (found["dunes"].rgb[:3], found["sky"].rgb[-3:]) == (bytes([215, 167, 140]), bytes([93, 123, 168]))


@pytest.mark.parametrize("name", ["drawn:nothing", "nothing.jpg", "SOURCES.md"])
def test_a_picture_that_is_not_there_is_said(name: str) -> None:
    with pytest.raises(Exception, match="part of Customhouse"):
        golden.picture(name, MODELS / "golden")


# --- the real models --------------------------------------------------------------------------------------------------


def opened_from_weights() -> Settings:
    folder = os.environ.get("CUSTOMHOUSE_TEST_WEIGHTS")
    if folder is None:
        pytest.skip("CUSTOMHOUSE_TEST_WEIGHTS is not set")
    return Settings(home=Path(folder).parent, inference=Inference(device="cpu", threads=1))


@pytest.mark.weights
@pytest.mark.parametrize("name", [name for name in STARTER if KNOWN[name].files])
def test_a_starter_model_gives_its_golden_scores(name: str) -> None:
    settings = opened_from_weights()
    vectors = golden.read(MODELS, name)
    assert vectors is not None
    opened = runtime.open_model(settings, KNOWN[name])
    try:
        findings = golden.check(KNOWN[name], vectors, MODELS / "golden", opened.answer)
    finally:
        opened.close()
    assert [finding for finding in findings if not finding.holds] == []


@pytest.mark.weights
@pytest.mark.parametrize("name", ["opennsfw", "image-safety-s", "nsfwjs"])
def test_golden_scores_notice_swapped_colours(name: str) -> None:
    settings = opened_from_weights()
    right, vectors = KNOWN[name], golden.read(MODELS, name)
    assert right.input is not None
    assert vectors is not None
    other = "RGB" if right.input.channels == "BGR" else "BGR"
    wrong = msgspec.structs.replace(right, input=msgspec.structs.replace(right.input, channels=other))
    opened = runtime.open_model(settings, wrong)
    try:
        findings = golden.check(wrong, vectors, MODELS / "golden", opened.answer)
    finally:
        opened.close()
    assert not all(finding.holds for finding in findings)


def test_the_language_library_gives_its_golden_scores() -> None:
    from appliance.models.verify import languages

    vectors = golden.read(MODELS, "language")
    assert vectors is not None
    findings = golden.check(KNOWN["language"], vectors, MODELS / "golden", languages)
    assert [finding for finding in findings if not finding.holds] == []


def test_golden_files_are_written_one_case_a_line() -> None:
    for path in MODELS.glob("*/golden.json"):
        assert path.read_text().count("\n") == len(json.loads(path.read_text())["cases"]) + 5, path
