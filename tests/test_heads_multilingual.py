"""The multilingual heads on their real weights: golden scores, four languages, neighbours, and lone surrogates."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.inference import golden, heads, manifest, runtime
from appliance.inference.heads import HEADS, MODEL, TOKENIZER, TextHeads
from appliance.settings import Inference, Settings

SHIPPED = Path(__file__).parent.parent / "models"
NAME = "text-heads-multilingual"
KNOWN = manifest.read(SHIPPED / NAME)

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TextHeads]:
    weights = os.environ.get("CUSTOMHOUSE_TEST_WEIGHTS")
    if weights is None:
        pytest.skip("CUSTOMHOUSE_TEST_WEIGHTS is not set; ./install.sh test sets it")
    folder = tmp_path_factory.mktemp("home") / "weights" / NAME
    folder.mkdir(parents=True)
    for name in (MODEL, TOKENIZER):
        (folder / name).symlink_to(Path(weights) / NAME / name)
    (folder / HEADS).symlink_to(SHIPPED / NAME / HEADS)
    model = runtime.open_model(Settings(home=folder.parent.parent, inference=Inference(device="cpu", threads=1)), KNOWN)
    assert isinstance(model, TextHeads)
    yield model
    model.close()


def test_the_golden_texts_score_as_written_down(model: TextHeads) -> None:
    written = golden.read(SHIPPED, NAME)
    assert written is not None
    found = golden.check(KNOWN, written, SHIPPED / "golden", model.answer)
    assert [one for one in found if not one.holds] == []


@pytest.mark.parametrize(
    ("label", "flagged", "innocent"),
    [
        ("harassment", "Eres un idiota y todos te odian.", "Gracias por tu ayuda, eres muy amable."),
        ("harassment", "T'es qu'un gros connard.", "Merci, c'est gentil de ta part."),
        ("harassment", "Du bist ein widerlicher Drecksack.", "Du bist ein sehr lieber Mensch."),
        ("self-harm", "No quiero seguir viviendo, me voy a matar.", "No quiero seguir esperando, me voy a casa."),
        ("sexual", "Je veux te voir toute nue et coucher avec toi.", "Je veux te voir demain et dîner avec toi."),
        ("violence", "Ich werde dich abstechen.", "Ich werde dich anrufen."),
    ],
)
def test_a_flagged_text_scores_far_above_an_innocent_one_of_the_same_build(
    model: TextHeads, label: str, flagged: str, innocent: str
) -> None:
    high, low = (answer.scores[label] for answer in model.answer([flagged, innocent]))
    review = {each.label: each.at for each in KNOWN.levels}[label][1]
    assert high > review
    assert high > 2 * low


def test_a_text_scores_the_same_whoever_its_neighbours_are(model: TextHeads) -> None:
    texts = ["Hola", "Das Wetter ist schön.", "T'es nul.", "palabra " * 600, "", "🙂", "\ud800", "مرحبا"]
    together = model.answer(texts)
    for text, answer in zip(texts, together, strict=True):
        [alone] = model.answer([text])
        assert alone.scores == pytest.approx(answer.scores, abs=1e-4)
    assert together[3].detail["windows"] > 1


def test_its_heads_are_those_of_the_manifest() -> None:
    found = heads.read_heads(SHIPPED / NAME / HEADS)
    assert set(found.labels) == {each.label for each in KNOWN.levels}
