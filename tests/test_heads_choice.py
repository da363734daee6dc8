"""Which model answers a text, and its scores on the scale of policies."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from appliance.errors import Unavailable
from appliance.inference.wire import Answer, Problem
from appliance.moderations import heads
from appliance.moderations.heads import ENGLISH, MULTILINGUAL, Heads, asked, brought, scored
from appliance.moderations.readers import Readers
from appliance.settings import Settings
from appliance.text.analysis import Analysis, Result
from appliance.text.language import Language


@pytest.mark.parametrize(
    ("language", "installed", "model"),
    [
        ("en", {ENGLISH, MULTILINGUAL}, ENGLISH),
        ("es", {ENGLISH, MULTILINGUAL}, MULTILINGUAL),
        ("sv", {ENGLISH, MULTILINGUAL}, MULTILINGUAL),
        ("unknown", {ENGLISH, MULTILINGUAL}, MULTILINGUAL),
        ("mixed", {ENGLISH, MULTILINGUAL}, MULTILINGUAL),
        ("es", {ENGLISH}, ENGLISH),
        ("en", {MULTILINGUAL}, MULTILINGUAL),
        ("fr", set[str](), ENGLISH),
    ],
)
def test_a_text_is_asked_of_the_model_of_its_language(language: str, installed: set[str], model: str) -> None:
    assert asked(language, installed) == model


def test_a_level_of_one_model_is_the_same_level_of_the_other() -> None:
    mine, theirs = (0.2, 0.5, 0.9), (0.4, 0.6, 0.8)
    assert [brought(p, mine, theirs) for p in (0.0, *mine, 1.0)] == pytest.approx([0.0, *theirs, 1.0])
    assert brought(0.35, mine, theirs) == pytest.approx(0.5)
    assert [brought(p, mine, mine) for p in (0.1, 0.33, 0.97)] == pytest.approx([0.1, 0.33, 0.97])


def test_levels_that_coincide_never_turn_the_order_round() -> None:
    found = [brought(p / 100, (0.3, 0.3, 0.9), (0.2, 0.5, 0.6)) for p in range(101)]
    assert found == sorted(found)


def test_a_label_without_levels_stays_as_it_is_and_what_is_no_analyzer_is_left_out() -> None:
    found = scored(
        {"hate": 0.5, "violence": 0.25, "prohibited": 0.9}, {"hate": [0.5, 0.6, 0.7]}, {"hate": [0.1, 0.2, 0.3]}
    )
    assert {name: one.score for name, one in found.items()} == {"hate": pytest.approx(0.1), "violence": 0.25}


def test_every_analyzer_of_both_models_has_rising_levels() -> None:
    from appliance.inference import manifest

    for name in heads.MODELS:
        levels = heads.levels(manifest.read(Settings().models_dir / name))
        assert set(levels) >= {"harassment", "hate", "self-harm", "sexual", "violence", "toxicity"}
        assert all(0 < low <= middle <= high < 1 for low, middle, high in levels.values())


class _Answering(Readers):
    """Readers whose models are a table."""

    def __init__(self, settings: Settings, answer: Answer) -> None:
        super().__init__(settings)
        self.calls: list[tuple[list[str], list[str]]] = []
        self._answer = answer

    async def read(self, texts: Sequence[str], models: Sequence[str], until: float) -> list[dict[str, Answer]]:
        self.calls.append((list(texts), list(models)))
        return [dict.fromkeys(models, self._answer) for _ in texts]


def _settings(home: Path) -> Settings:
    for name in heads.MODELS:
        (home / "weights" / name).mkdir(parents=True)
        (home / "weights" / name / "heads.json").touch()
    return Settings(home=home)


def test_several_texts_cost_one_call_of_each_model(tmp_path: Path) -> None:
    readers = _Answering(_settings(tmp_path), Answer(scores={"hate": 0.0, "prohibited": 0.3}))
    found = [Analysis(Language(code, 0.9), {"spam": Result(0.1)}) for code in ("en", "es", "en", "pt")]
    begun = Heads(Settings(home=tmp_path), readers).add(["a", "b", "c", "d"], found, time.monotonic() + 1)
    joined = asyncio.run(begun)
    assert readers.calls == [(["a", "c"], [ENGLISH]), (["b", "d"], [MULTILINGUAL])]
    assert [one.results["hate"].score for one in joined] == [0.0] * 4
    assert all(one.results["spam"] == Result(0.1) and one.labels["prohibited"] == 0.3 for one in joined)
    readers.close()


def test_a_text_without_an_answer_is_said_to_be_without_one(tmp_path: Path) -> None:
    readers = _Answering(
        _settings(tmp_path), Answer(problem=Problem("MODEL_UNAVAILABLE", "it is not installed", passing=True))
    )
    begun = Heads(Settings(home=tmp_path), readers).add(
        ["a"], [Analysis(Language("en", 0.9), {})], time.monotonic() + 1
    )
    with pytest.raises(Unavailable, match="not installed"):
        asyncio.run(begun)
    readers.close()


def test_a_models_folder_of_the_operators_own_need_not_describe_the_heads(settings: Settings, tmp_path: Path) -> None:
    # 2026-11-21: the API did not start
    bare = msgspec.structs.replace(settings, models_dir=tmp_path)
    readers = Readers(bare)
    assert heads.Heads(bare, readers).installed == set()
    assert heads.levels_of(tmp_path, heads.ENGLISH) == {}
    readers.close()
