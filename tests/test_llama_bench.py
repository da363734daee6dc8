"""The GPU's benchmark, on models small enough for a CPU: that it measures what it says."""

from pathlib import Path
from typing import Any, cast

import pytest

from appliance.bench import gpu_judges, random_weights
from appliance.bench.gpu_judges import Size
from appliance.errors import Misconfigured
from tests import tinyvlm

TOWER = tinyvlm.TowerShape(width=64, layers=2, heads=4, inner=128, side=56, patch=14)


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
def test_it_writes_weights_asks_varied_requests_and_leaves_nothing_behind(tmp_path: Path, kind: str) -> None:
    sizes = {"tiny": Size(tinyvlm.TEXT, TOWER, kind)}
    settings = tinyvlm.settings(tmp_path)
    figures = gpu_judges.gpu(settings, sizes, texts=64, images=3, seconds=10, anywhere=True)
    tiny = cast(dict[str, Any], figures["tiny"])
    texts, images = tiny["text"]["batches_of_8"], tiny["vision"]
    assert texts["requests"] == 64
    assert images["requests"] == 3
    assert images["questions_each"] == 8
    for measured in (texts, images):
        assert measured["problems"] == 0
        assert measured["verdicts_per_s"] > 0
        assert measured["p99_ms"] >= measured["p50_ms"] > 0
    assert list(tmp_path.iterdir()) == []


def test_it_refuses_a_machine_without_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="measures a GPU"):
        gpu_judges.gpu(tinyvlm.settings(tmp_path), {"tiny": Size(tinyvlm.TEXT, TOWER, "F32")})


def test_it_refuses_a_disk_without_room(tmp_path: Path) -> None:
    huge = tinyvlm.TextShape(
        width=65536, layers=900, heads=512, kv_heads=64, head_width=128, inner=262144, vocabulary=151936
    )
    with pytest.raises(Misconfigured, match="GB are needed"):
        gpu_judges.gpu(tinyvlm.settings(tmp_path), {"huge": Size(huge, TOWER)})


def test_the_same_seed_writes_the_same_bytes_and_another_others(tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        random_weights.projector(tmp_path / name, TOWER, 64, seed=seed)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert a != c
