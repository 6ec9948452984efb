"""``tidemill replay-dead-letters`` and ``tidemill accept-loss``: what a topic's tables lack."""

from typing import Any

from tidemill import compose
from tidemill.commands import broker, show
from tidemill.errors import InputError
from tidemill.kafka.spans import Span
from tidemill.kafka.subscription import Subscription
from tidemill.settings import Settings


def replay(settings: Settings, topic: str | None) -> list[dict[str, Any]]:
    """Send again the dead letters that today's rules take, of one topic or of all.

    Returns:
        A mapping a topic: topic, sent, left (how many stay, by reason).

    Raises:
        InputError: There is no such topic.
        TidemillError: The broker did not take all of them.
    """
    from tidemill.kafka import dead, topics

    asked = [topic] if topic else list(compose.SUBSCRIPTIONS)
    known = [subscription(settings, name) for name in asked]
    broker.require(settings)
    found = []
    for name, letters in zip(asked, known, strict=True):
        if topic is None and name not in topics.described(compose.kafka(settings)):
            continue  # another Kafka may have some of the topics alone
        done = dead.replay(letters)
        found.append({"topic": name, "sent": done.sent, "left": dict(done.left)})
    return found


def print_report(report: list[dict[str, Any]]) -> None:
    """Show what became of the dead letters."""
    for told in report:
        left = sum(told["left"].values())
        show.out.print(f"{told['topic']}: {told['sent']:,} sent again, {left:,} left")
        if told["left"]:
            show.table(("left", "because"), [(n, reason) for reason, n in told["left"].items()])


def lost(settings: Settings, topic: str) -> list[Span]:
    """The offsets of a topic that retention took before they were read.

    Raises:
        InputError: There is no such topic.
        TidemillError: No broker answers.
    """
    from tidemill.kafka import ledger

    asked = subscription(settings, topic)
    broker.require(settings)
    return ledger.lost(asked.lake, asked.feed, asked.held())


def accept_loss(settings: Settings, topic: str) -> list[dict[str, Any]]:
    """Write the offsets that retention took down as lost, so that what follows can be read.

    Returns:
        A mapping a partition: partition, start, stop, lost.
    """
    from tidemill.kafka import ledger

    asked = subscription(settings, topic)
    gone = ledger.accept_loss(asked.lake, asked.feed, asked.held())
    return [{**span._asdict(), "lost": span.stop - span.start} for span in gone]


def subscription(settings: Settings, topic: str) -> Subscription:
    """What reads a topic.

    Raises:
        InputError: There is no such topic.
    """
    if topic not in compose.SUBSCRIPTIONS:
        raise InputError(
            f"there is no topic {topic!r}; there are {', '.join(compose.SUBSCRIPTIONS)}"
        )
    return compose.SUBSCRIPTIONS[topic](settings)
