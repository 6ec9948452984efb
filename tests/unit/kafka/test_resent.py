"""Where a letter was is told by its header, whatever the topic's id looks like."""

import polars as pl
import pytest

from tidemill.kafka import resent


@pytest.mark.parametrize("topic_id", ["abc", "a/b+c/1/2", "2ruOy8aNQJil1LjsloT6BQ"])
def test_a_header_is_read_as_it_was_written(topic_id: str) -> None:
    _, name = resent.header(topic_id, 2, 10**12)
    found = resent._places(
        pl.DataFrame({"header": [None, name, b"x", b"\xff", b"/1/2", b"t/1/-2"]})
    )
    assert found.rows() == [(topic_id, 2, 10**12)]
    assert found.schema == {"topic_id": pl.String, "partition": pl.Int32, "offset": pl.Int64}


def test_messages_without_the_header_tell_of_no_letter() -> None:
    none = pl.DataFrame({"header": [None, None]}, schema={"header": pl.Binary})
    assert resent._places(none).height == 0
