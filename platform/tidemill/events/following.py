"""What follows the topic of events: windows of several sizes, and what came late."""

from tidemill.engines.base import Engine
from tidemill.events import contracts as c
from tidemill.events import windows
from tidemill.events.live import late_events
from tidemill.events.topics import ANALYTICS
from tidemill.kafka.subscription import Subscription
from tidemill.kafka.topics import Topic
from tidemill.lake import stream
from tidemill.lake.store import Written
from tidemill.windows import publish as publishing
from tidemill.windows.follow import follow, of_rows, of_windows, standing

FOLLOWERS = (*map(of_windows, windows.LIVE), of_rows(c.LATE_EVENTS, late_events))
PUBLISHED = (windows.EVENT_COUNTS, windows.BRAND_METRICS, windows.CATEGORY_METRICS)


def windowed(clicks: Subscription, engine: Engine) -> dict[str, Written]:
    """Bring the windows and the late events to where ``raw_events`` stands; see ``follow``."""
    return follow(clicks.lake, clicks.feed, FOLLOWERS, engine)


def published(clicks: Subscription, topic: Topic = ANALYTICS) -> int:
    """Send the final windows of 2 s that a topic lacks; how many."""
    return publishing.publish(clicks.lake, clicks.feed, PUBLISHED, clicks.config, topic)


def behind(clicks: Subscription) -> list[str]:
    """The tables that do not have all rows of ``raw_events``, by id; then, the topic of windows."""
    ledger = standing(clicks.lake, clicks.feed)
    at = {
        follower.table.id: stream.reached(clicks.lake, follower.table, ledger.names)
        for follower in FOLLOWERS
    }
    found = [table for table, reached in at.items() if ledger.behind(reached)]
    if not found and publishing.is_owed(clicks.lake, clicks.feed, PUBLISHED, ANALYTICS):
        found.append(ANALYTICS.name)
    return found
