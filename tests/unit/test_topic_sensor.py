"""When unread messages are worth a run, told without a broker."""

import itertools

from sensors.topics import Cursor, Patience, decide
from tidemill.kafka.spans import Span, Standing

HELD = Standing("ticks", "abc", {0: (0, 100), 1: (0, 50)})
SPANS = [Span(0, 10, 100), Span(1, 0, 50)]
PATIENCE = Patience(rows=100, age_s=5)


def test_enough_messages_are_a_run_at_once_and_its_key_is_the_work() -> None:
    key, cursor, _ = decide(Cursor(), HELD, SPANS, 1000.0, PATIENCE)
    assert key == "ticks:abc 0:10-100 1:0-50"
    assert cursor.next == {"0": 100, "1": 50}
    assert Cursor.of(str(cursor)) == cursor


def test_few_messages_wait_until_they_are_old_enough() -> None:
    few = [Span(0, 10, 20)]
    key, cursor, why = decide(Cursor(), HELD, few, 1000.0, PATIENCE)
    assert (key, cursor.since_s) == (None, 1000.0)
    assert "10 messages wait for more" in why
    key, cursor, _ = decide(cursor, HELD, [Span(0, 10, 21)], 1004.9, PATIENCE)
    assert (key, cursor.since_s) == (None, 1000.0)
    key, cursor, _ = decide(cursor, HELD, [Span(0, 10, 22)], 1005.0, PATIENCE)
    assert (key, cursor.since_s) == ("ticks:abc 0:10-22", None)


def test_nothing_new_is_no_run_and_forgets_the_wait() -> None:
    _, waiting, _ = decide(Cursor(), HELD, [Span(0, 10, 20)], 1000.0, PATIENCE)
    key, cursor, why = decide(waiting, HELD, [], 1001.0, PATIENCE)
    assert (key, cursor.since_s, why) == (None, None, "nothing new in ticks")


def test_what_a_failed_run_left_is_asked_for_again_under_another_key_and_ever_later() -> None:
    first, cursor, _ = decide(Cursor(), HELD, SPANS, 1000.0, PATIENCE)
    keys = [first]
    asked_at = [1000.0]
    now = 1000.0
    while len(keys) < 5:
        now += 1.0
        longer = [Span(0, 10, 100 + int(now) - 1000), Span(1, 0, 50)]
        key, cursor, why = decide(cursor, HELD, longer, now, PATIENCE)
        if key:
            keys.append(key)
            asked_at.append(now)
        else:
            assert "left them unread" in why
    assert len(set(keys)) == 5
    assert str(keys[1]).endswith("again 1")
    waits = [later - sooner for sooner, later in itertools.pairwise(asked_at)]
    assert waits == [2.0, 4.0, 8.0, 16.0]


def test_once_a_retry_has_read_them_the_next_messages_do_not_wait_for_it() -> None:
    _, cursor, _ = decide(Cursor(), HELD, SPANS, 1000.0, PATIENCE)
    key, cursor, _ = decide(cursor, HELD, SPANS, 1002.0, PATIENCE)
    assert key is not None
    key, cursor, _ = decide(cursor, HELD, [Span(0, 100, 300)], 1003.0, PATIENCE)
    assert key == "ticks:abc 0:100-300"
    assert cursor.tries == 0


def test_a_topic_made_again_is_other_work_at_the_same_offsets() -> None:
    _, cursor, _ = decide(Cursor(), HELD, SPANS, 1000.0, PATIENCE)
    again = Standing("ticks", "xyz", HELD.marks)
    key, _, _ = decide(cursor, again, SPANS, 1000.5, PATIENCE)
    assert key == "ticks:xyz 0:10-100 1:0-50"


def test_what_was_asked_for_is_owed_until_the_lake_has_it() -> None:
    _, cursor, _ = decide(Cursor(), HELD, SPANS, 1000.0, PATIENCE)
    assert cursor.is_owed(HELD, SPANS)
    assert cursor.is_owed(HELD, [Span(0, 99, 120)])
    assert not cursor.is_owed(HELD, [Span(0, 100, 120), Span(1, 50, 60)])
    assert not cursor.is_owed(Standing("ticks", "xyz", HELD.marks), SPANS)


def test_what_comes_while_a_run_reads_has_waited_once_that_one_is_done() -> None:
    _, cursor, _ = decide(Cursor(), HELD, SPANS, 1000.0, PATIENCE)
    cursor = cursor.waited(SPANS, 1001.0)
    assert cursor.since_s is None
    stops = {span.partition: span.stop for span in SPANS}
    longer = [Span(p, start, stops[p] + 1) for p, start, _ in SPANS]
    cursor = cursor.waited(longer, 1002.0).waited(longer, 1003.0)
    assert cursor.since_s == 1002.0
    left = [Span(p, stop, stop + 1) for p, stop in stops.items()]
    key, _, why = decide(cursor, HELD, left, 1002.0 + PATIENCE.age_s, PATIENCE)
    assert key, why


def test_the_offsets_of_a_topic_that_is_gone_are_forgotten() -> None:
    _, cursor, _ = decide(Cursor(), HELD, SPANS, 1000.0, PATIENCE)
    again = Standing("ticks", "xyz", {0: (0, 200)})
    _, cursor, _ = decide(cursor, again, [Span(0, 0, 200)], 1001.0, PATIENCE)
    assert cursor.next == {"0": 200}
