"""What a topic holds is asked again while its partitions have no leader, and only then."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from tidemill.errors import TidemillError
from tidemill.kafka import spans

CONFIG = {"bootstrap.servers": "127.0.0.1:1"}
HELD = spans.Standing("ticks", "abc", {0: (0, 3)})


def failing(monkeypatch: pytest.MonkeyPatch, code: int) -> list[int]:
    """Let the broker refuse the first question with that error; says which were asked."""
    asked: list[int] = []

    def answer(*_: Any) -> spans.Standing:
        asked.append(code)
        if len(asked) == 1:
            raise KafkaException(KafkaError(code))
        return HELD

    monkeypatch.setattr(spans, "_asked", answer)
    return asked


@pytest.mark.parametrize(
    "code", [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE]
)
def test_a_topic_just_made_is_asked_again(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    asked = failing(monkeypatch, code)
    assert spans.standing(CONFIG, "ticks") == HELD
    assert len(asked) == 2


def test_a_topic_that_one_may_not_read_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = failing(monkeypatch, KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(TidemillError, match="topic ticks at"):
        spans.standing(CONFIG, "ticks")
    assert len(asked) == 1
