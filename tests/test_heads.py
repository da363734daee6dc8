"""The text heads on their real weights: windows, batches, golden scores, and what is said when the files are wrong."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from appliance.errors import Misconfigured
from appliance.inference import golden, heads, manifest, runtime
from appliance.inference.heads import HEADS, MODEL, TOKENIZER, Embedder, TextHeads
from appliance.settings import Inference, Settings

SHIPPED = Path(__file__).parent.parent / "models"
KNOWN = manifest.read(SHIPPED / "text-heads")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fetched embedding with the heads as they stand in models/."""
    weights = os.environ.get("CUSTOMHOUSE_TEST_WEIGHTS")
    if weights is None:
        pytest.skip("CUSTOMHOUSE_TEST_WEIGHTS is not set; ./install.sh test sets it")
    folder = tmp_path_factory.mktemp("home") / "weights" / "text-heads"
    folder.mkdir(parents=True)
    for name in (MODEL, TOKENIZER):
        (folder / name).symlink_to(Path(weights) / "text-heads" / name)
    (folder / HEADS).symlink_to(SHIPPED / "text-heads" / HEADS)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[TextHeads]:
    settings = Settings(home=folder.parent.parent, inference=Inference(device="cpu", threads=1))
    model = runtime.open_model(settings, KNOWN)
    assert isinstance(model, TextHeads)
    yield model
    model.close()


@pytest.mark.weights
def test_the_golden_texts_score_as_written_down(model: TextHeads) -> None:
    written = golden.read(SHIPPED, "text-heads")
    assert written is not None
    found = golden.check(KNOWN, written, SHIPPED / "golden", model.answer)
    assert [one for one in found if not one.holds] == []


@pytest.mark.weights
def test_a_text_scores_the_same_whoever_its_neighbours_are(model: TextHeads) -> None:
    texts = ["A cat sits on a mat.", "a lighthouse at dawn", "You are an idiot.", "word " * 600, "", "🙂"]
    together = model.answer(texts)
    for text, answer in zip(texts, together, strict=True):
        [alone] = model.answer([text])
        assert alone.scores == pytest.approx(answer.scores, abs=1e-5)


@pytest.mark.weights
def test_what_stands_at_the_end_of_a_long_text_counts(model: TextHeads) -> None:
    innocent = "The lighthouse stands on a cliff above the sea, and gulls fly round it in the evening light. " * 40
    # enough of it to fill most of a window: a few words among 256 innocent tokens are drowned, as README says
    told = "You are a worthless idiot and everybody hates you. I hope you die. " * 14
    [plain, long] = model.answer([innocent, innocent + told])
    assert long.detail["windows"] > 1
    assert long.scores["prohibited"] > plain.scores["prohibited"] + 0.3


@pytest.mark.weights
@pytest.mark.parametrize("words", [1, 253, 254, 255, 444, 445, 446, 2000])
def test_windows_overlap_and_leave_nothing_out(folder: Path, words: int) -> None:
    embedder = Embedder(folder, "cpu", 1)
    windows = embedder.windows("cat " * words)
    assert max(map(len, windows)) <= 256
    inner = [window[1:-1] for window in windows]
    assert sum(map(len, inner)) - 63 * (len(inner) - 1) == words
    if len(inner) > 1:
        assert all(len(window) == 254 for window in inner[:-1])
        assert len(inner[-1]) > 63
    embedder.close()


@pytest.mark.weights
@pytest.mark.parametrize("text", ["", " ", "\x00", "\ud800", "🙂" * 300, "a" * 20_000, "\n\n\n", "禁止"])
def test_any_text_gets_probabilities(model: TextHeads, text: str) -> None:
    [answer] = model.answer([text])
    assert set(answer.scores) == set(model.labels)
    assert all(0 <= score <= 1 for score in answer.scores.values())
    assert answer.problem is None


@pytest.mark.weights
def test_ordinary_prompts_pass_and_plain_requests_do_not(model: TextHeads) -> None:
    ordinary = [
        "a golden retriever puppy in a flower garden, watercolour",
        "an astronaut riding a horse, photorealistic, 8k",
        "portrait of an old sailor, dramatic lighting",
        "children building a sandcastle at the beach",
        "a chef sharpening a knife in a restaurant kitchen",
        "soldiers saluting at a war memorial",
        "what is the capital of France?",
    ]
    flagged = [
        "a naked woman on a bed, nsfw",
        "explicit sex scene, photorealistic",
        "a man being tortured, gore, blood everywhere",
        "propaganda poster inciting hatred of immigrants",
        "a person committing suicide, realistic",
    ]
    refused = [
        any(answer.scores[use.label] >= use.threshold for use in KNOWN.answers)
        for answer in model.answer([*ordinary, *flagged])
    ]
    assert refused == [False] * len(ordinary) + [True] * len(flagged)


def test_every_label_of_the_heads_is_one_that_the_contract_knows() -> None:
    found = heads.read_heads(SHIPPED / "text-heads" / HEADS)
    assert "prohibited" in found.labels
    assert {use.label for use in KNOWN.answers} <= set(found.labels)
    assert (SHIPPED / "text-heads" / HEADS).stat().st_size < 1_000_000
    vectors = np.array([head.weights for head in found.labels.values()])
    assert vectors.shape == (len(found.labels), 384)
    assert np.isfinite(vectors).all()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"labels": {"a": {"weights": [1], "bias": "x"}}}',
        b'{"labels": {}}',
        b'{"labels": {"a": {"weights": [1], "bias": 0}, "b": {"weights": [1, 2], "bias": 0}}}',
    ],
)
def test_heads_that_are_none_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / HEADS
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match=r"heads\.json.*customhouse train heads"):
        heads.read_heads(path)


@pytest.mark.weights
def test_a_tokenizer_that_is_none_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    (tmp_path / MODEL).symlink_to(folder / MODEL)
    (tmp_path / TOKENIZER).write_text("{}")
    with pytest.raises(Misconfigured, match=r"tokenizer\.json"):
        Embedder(tmp_path, "cpu", 1)


@pytest.mark.weights
def test_heads_of_another_embedding_are_refused(folder: Path, tmp_path: Path) -> None:
    for name in (MODEL, TOKENIZER):
        (tmp_path / name).symlink_to(folder / name)
    other = heads.Heads({"prohibited": heads.Head([0.1] * 8, 0.0)})
    (tmp_path / HEADS).write_bytes(msgspec.json.encode(other))
    with pytest.raises(Misconfigured, match="384"):
        TextHeads(KNOWN, tmp_path, "cpu", 1, 8)
