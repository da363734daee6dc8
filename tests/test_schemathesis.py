"""The running server against its own OpenAPI document, by schemathesis. Longer, with a report: python -m tests.fuzz"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import Box, run

SEED = 20261121


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    box = Box(tmp_path_factory.mktemp("fuzz"))
    yield box
    box.close()


def test_no_request_makes_it_fail_or_answer_what_is_not_documented(box: Box, tmp_path: Path) -> None:
    """The examples; then every bound and its neighbours, what is missing, of another type or too much, wrong keys,
    other methods."""
    found = run(box, tmp_path, seed=SEED, phases=("examples", "coverage"))
    assert found.code == 0, found.text[-20_000:]
    assert found.tested == found.operations > 60
    assert box.is_let_in


def test_neither_does_anything_that_comes_to_mind(box: Box, tmp_path: Path) -> None:
    found = run(box, tmp_path, seed=SEED, phases=("fuzzing",), options=("--max-time", "12"))
    assert found.code == 0, found.text[-20_000:]


def test_what_is_answered_leads_on_as_the_links_say(box: Box, tmp_path: Path) -> None:
    """What one route answers is given to the next; what was deleted is not found, what was made is."""
    found = run(box, tmp_path, seed=SEED, phases=("stateful",), options=("--max-time", "20"))
    assert found.code == 0, found.text[-20_000:]


def test_nothing_went_wrong_behind_the_answers(box: Box) -> None:
    assert box.is_let_in
    assert '"level":"error"' not in box.log()
    assert "Traceback" not in box.log()
