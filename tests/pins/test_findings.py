"""Questions and findings on their way to a daemon and back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fsd.errors import UsageError
from fsd.pins.findings import Findings, Question
from fsd.pins.links import Target

QUESTION = Question(Target("data", "main", "tiny", "a/latin-\udce9"), "main", is_here=True)


def test_there_and_back() -> None:
    assert Question.from_json(json.loads(json.dumps(QUESTION.to_json()))) == QUESTION
    for findings in (Findings(b"\xab" * 32, ("v1", "v2"), True, 3, ""), Findings(None, (), False, None, "gone", 7, 5)):
        assert Findings.from_json(json.loads(json.dumps(findings.to_json()))) == findings


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        QUESTION.to_json() | {"more": 1},
        QUESTION.to_json() | {"repository": 1},
        QUESTION.to_json() | {"is_here": "yes"},
    ],
)
def test_what_is_no_question(value: Any) -> None:
    with pytest.raises(UsageError, match="question about a pin"):
        Question.from_json(value)
