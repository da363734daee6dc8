"""What `customhouse bench --text` reads and reckons."""

from pathlib import Path

import pytest

from appliance.bench import text
from appliance.errors import InvalidRequest


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("x.csv", "text,is_toxic\nhello,Not Toxic\nyou idiot,Toxic\n"),
        ("x.csv", "comment_text,insult,threat\nhello,0,0\nyou idiot,1,0\n"),
        ("x.jsonl", '{"prompt": "hello", "S": 0, "H": 0}\n\n{"prompt": "you idiot", "S": 0, "H": 1}\n'),
    ],
)
def test_labelled_texts_are_read_as_people_keep_them(tmp_path: Path, name: str, body: str) -> None:
    (tmp_path / name).write_text(body)
    assert text.read_labelled(tmp_path / name) == (["hello", "you idiot"], [False, True])


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("x.csv", "words,label\nhello,1\n", "needs a column"),
        ("x.csv", "text,label\nhello,1\n", "both kinds"),
        ("x.jsonl", "{", "cannot be read"),
        ("x.csv", "", "needs a column"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path, name: str, body: str, said: str) -> None:
    (tmp_path / name).write_text(body)
    with pytest.raises(InvalidRequest, match=said):
        text.read_labelled(tmp_path / name)


def test_auc_counts_the_pairs_in_the_right_order_and_equals_by_half() -> None:
    assert text.auc([False, True], [0.1, 0.9]) == 1
    assert text.auc([True, False], [0.1, 0.9]) == 0
    assert text.auc([True, False, True, False], [0.5, 0.5, 0.5, 0.5]) == 0.5
    assert text.auc([True, False, True, False], [0.9, 0.5, 0.5, 0.1]) == 0.875
