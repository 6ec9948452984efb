"""Live ticks become days in the graph, and the checks on them can fail."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

import assets.crypto as graph
import assets.live as live
from assets import materialize
from resources.home import CryptoResource
from sensors.live_days import new_days
from tidemill import compose
from tidemill.commands import run, status
from tidemill.crypto import checks
from tidemill.crypto import contracts as c
from tidemill.crypto.build import Crypto
from tidemill.crypto.pending import Months
from tidemill.definitions import defs
from tidemill.lake import duck
from tidemill.lake.contracts import Table, polars_schema
from tidemill.settings import Settings

FIRST = date(2024, 3, 1)
NOON = datetime(2024, 3, 1, 12)
MARCH = Months(FIRST, FIRST)


@pytest.fixture
def crypto(tmp_path: Path) -> Crypto:
    """A home in which nothing has landed."""
    return compose.crypto(Settings.current(tmp_path / "home"))


@pytest.fixture
def dagster() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def feed(crypto: Crypto, *ticks: tuple[str, float, datetime], partition: int = 0) -> None:
    """Commit ticks (symbol, price, when) as the next span of a partition, in time."""
    app = f"prices/{partition}"
    start = crypto.lake.reached(c.LIVE_PRICES, app) or 0
    stop = start + len(ticks)
    origin: dict[str, Any] = {"topic": "prices", "topic_id": "x", "partition": partition}
    rows = [
        origin | {"symbol": s, "price": p, "event_time": at, "produced_at": at, "date": at.date()}
        for s, p, at in ticks
    ]
    frame = pl.DataFrame(rows).with_columns(
        pl.int_range(start, stop).alias("offset"), is_late=pl.lit(False)
    )
    span = origin | {"start": start, "stop": stop, "consumed": len(ticks), "good": len(ticks)}
    span |= dict.fromkeys(("absent", "lost", "late", "duplicate", "dead"), 0)
    span |= dict.fromkeys(("closed_before", "closed_after"), None)
    span |= {"newest_event_at": max(at for *_, at in ticks), "committed_at": NOON}
    ledger = pl.DataFrame([span | {"batch": "b", "staged": "[]"}])
    crypto.lake.append(c.CONSUMED_SPANS, ledger, app, stop)
    crypto.lake.append(c.LIVE_PRICES, frame, app, stop)


def land(crypto: Crypto, folder: Path, symbol: str, days: int) -> None:
    """Ten minutes of each of some days from the first of March, at a price of 2."""
    first = int(datetime.combine(FIRST, NOON.time(), UTC).timestamp())
    times = [first + 86_400 * day + 60 * minute for day in range(days) for minute in range(10)]
    path = folder / f"{symbol}.csv"
    rows = "".join(f"{at},2,2,2,2,1\n" for at in times)
    path.write_text(f"timestamp,open,high,low,close,volume\n{rows}")
    crypto.landing.land_file(path)


def merged(crypto: Crypto, symbol: str) -> list[tuple[Any, ...]]:
    """Date, close and source of each day of the merged series."""
    found = crypto.read(c.MERGED_DAILY_OHLC, symbol)
    return found.select("date", "daily_close", "source").rows()


def test_days_wait_until_all_their_ticks_are_counted(crypto: Crypto) -> None:
    assert crypto.live_dates() == []
    feed(crypto, ("A", 5.0, NOON), ("A", 6.0, NOON - timedelta(days=1)))
    assert crypto.live_dates() == [FIRST - timedelta(days=1), FIRST]
    crypto.live_daily_ohlc(crypto.live_dates())
    assert crypto.live_dates() == []
    feed(crypto, ("A", 7.0, NOON))
    assert crypto.live_dates() == [FIRST]


def test_an_open_day_waits_once_the_watermark_has_passed_it(crypto: Crypto) -> None:
    midnight = NOON + timedelta(hours=12)
    feed(crypto, ("A", 5.0, NOON))
    crypto.live_daily_ohlc([FIRST])
    feed(crypto, ("A", 6.0, midnight + timedelta(minutes=59)))
    crypto.live_daily_ohlc([midnight.date()])
    assert crypto.live_dates() == []
    feed(crypto, ("A", 6.0, midnight + timedelta(minutes=60)))
    crypto.live_daily_ohlc([midnight.date()])
    assert crypto.live_dates() == [FIRST]
    crypto.live_daily_ohlc([FIRST])
    assert crypto.live_dates() == []


def test_a_day_of_a_partition_that_stands_still_does_not_wait_for_ever(crypto: Crypto) -> None:
    feed(crypto, ("A", 5.0, NOON))
    feed(crypto, ("B", 5.0, NOON + timedelta(days=9)), partition=1)
    crypto.live_daily_ohlc(crypto.live_dates())
    assert crypto.live_dates() == []


def test_a_rival_with_more_ticks_is_not_overwritten(
    crypto: Crypto, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(crypto, ("A", 5.0, NOON))
    write: Any = crypto.engine.write
    rival = compose.crypto(Settings.current(crypto.lake.root.parent))

    def slow(*given: Any) -> Any:
        *rest, still = given
        monkeypatch.undo()

        def meanwhile() -> bool:
            if not left.pop():
                feed(crypto, ("A", 6.0, NOON))
                rival.live_daily_ohlc([FIRST])
            return bool(still())

        left = [True, False]
        return write(*rest, meanwhile)

    monkeypatch.setattr(crypto.engine, "write", slow)
    crypto.live_daily_ohlc([FIRST])
    assert crypto.live_dates() == []


def test_symbols_are_those_that_landed_and_those_with_ticks(crypto: Crypto, tmp_path: Path) -> None:
    land(crypto, tmp_path, "AAAUSDT", 1)
    feed(crypto, ("BBBUSDT", 5.0, NOON))
    assert crypto.symbols() == ["AAAUSDT", "BBBUSDT"]
    crypto.live_daily_ohlc(crypto.live_dates())
    assert crypto.symbols() == ["AAAUSDT", "BBBUSDT"]
    assert (crypto.months("AAAUSDT"), crypto.months("BBBUSDT")) == (MARCH, None)


def test_the_command_makes_the_series_of_both_layers_and_every_check_holds(
    crypto: Crypto, tmp_path: Path
) -> None:
    settings = Settings.current(tmp_path / "home")
    land(crypto, tmp_path, "AAAUSDT", 2)
    feed(crypto, ("AAAUSDT", 5.0, NOON), ("AAAUSDT", 6.0, NOON + timedelta(days=3)))
    feed(crypto, ("BBBUSDT", 7.0, NOON), partition=1)
    report = run.run(settings, [], None)
    assert (report["failed_checks"], report["errors"]) == ([], [])
    assert [source for *_, source in merged(crypto, "AAAUSDT")] == ["1m", "1m", "live"]
    assert merged(crypto, "BBBUSDT") == [(FIRST, 7.0, "live")]
    series = crypto.series("AAAUSDT").select("is_filled", "volume").rows()
    assert series[2:] == [(True, 0.0), (False, None)]
    found = status.status(settings)
    assert (found["failed_checks"], found["live_days_pending"]) == ({}, [])


def test_a_symbol_is_asked_for_without_the_live_days_of_others(
    crypto: Crypto, tmp_path: Path
) -> None:
    land(crypto, tmp_path, "AAAUSDT", 1)
    feed(crypto, ("BBBUSDT", 7.0, NOON))
    report = run.run(Settings.current(tmp_path / "home"), ["AAAUSDT"], None)
    assert report["symbols"] == ["AAAUSDT"]
    assert "crypto.live_daily_ohlc" not in {table["table"] for table in report["tables"]}


def test_a_new_symbols_days_give_it_a_partition(
    crypto: Crypto, dagster: dg.DagsterInstance
) -> None:
    feed(crypto, ("NEWUSDT", 5.0, NOON))
    home = str(crypto.lake.root.parent)
    for _ in range(2):  # the second time nothing waits
        done = dg.materialize(
            [live.live_daily_ohlc, live.counts_every_tick],
            instance=dagster,
            resources={"crypto": CryptoResource(home=home)},
        )
        assert all(found.passed for found in done.get_asset_check_evaluations())
    assert dagster.get_dynamic_partitions("symbol") == ["NEWUSDT"]


def test_live_days_that_the_series_lacks_are_asked_for_and_then_no_more(
    crypto: Crypto, dagster: dg.DagsterInstance
) -> None:
    dagster.add_dynamic_partitions("symbol", ["OLDUSDT", "BBBUSDT"])
    feed(crypto, ("NEWUSDT", 5.0, NOON), ("BBBUSDT", 7.0, NOON))
    crypto.live_daily_ohlc(crypto.live_dates())
    resources = {"crypto": CryptoResource(home=str(crypto.lake.root.parent))}

    def tick() -> dg.SensorResult:
        context = dg.build_sensor_context(instance=dagster, resources={"crypto": crypto})
        result = new_days(context)
        assert isinstance(result, dg.SensorResult)
        return result

    asked = tick()
    (added,) = asked.dynamic_partitions_requests or []
    assert list(added.partition_keys) == ["NEWUSDT"]
    (request,) = asked.run_requests or []
    assert list(request.tags.values()) == ["BBBUSDT", "NEWUSDT"]
    dagster.add_dynamic_partitions("symbol", ["NEWUSDT"])
    done = defs.resolve_job_def("crypto_series").execute_in_process(
        instance=dagster, tags=request.tags, resources=resources
    )
    assert done.success
    assert not tick().run_requests
    feed(crypto, ("BBBUSDT", 9.0, NOON + timedelta(seconds=1)))
    crypto.live_daily_ohlc(crypto.live_dates())
    (request,) = tick().run_requests or []
    assert list(request.tags.values()) == ["BBBUSDT", "BBBUSDT"]


def test_live_days_alone_make_no_symbol_be_made_again_by_automation(
    crypto: Crypto, dagster: dg.DagsterInstance
) -> None:
    feed(crypto, ("NEWUSDT", 5.0, NOON))
    dagster.add_dynamic_partitions("symbol", ["OLDUSDT"])
    evaluated = dg.evaluate_automation_conditions(defs, dagster)
    resources = {"crypto": CryptoResource(home=str(crypto.lake.root.parent))}
    dg.materialize([live.live_daily_ohlc], instance=dagster, resources=resources)
    evaluated = dg.evaluate_automation_conditions(defs, dagster, cursor=evaluated.cursor)
    assert evaluated.total_requested == 0


def test_what_has_landed_is_planned_without_live_days(dagster: dg.DagsterInstance) -> None:
    works = materialize.plan([("AAAUSDT", MARCH)], dagster)
    assert [list(work.assets) for work in works] == [graph.monthly, graph.symbolic]


@pytest.fixture
def fed(crypto: Crypto, tmp_path: Path) -> Crypto:
    """Two days of minutes, ticks of the first, fourth and fifth, another symbol's; all made."""
    land(crypto, tmp_path, "AAAUSDT", 2)
    at = [NOON + timedelta(days=day, minutes=minute) for day in (0, 3, 4) for minute in (0, 1)]
    feed(crypto, *[("AAAUSDT", 5.0 + instant.minute, instant) for instant in at])
    feed(crypto, ("BBBUSDT", 7.0, NOON), partition=1)
    crypto.all()
    return crypto


def twisted(crypto: Crypto, table: Table, query: str) -> None:
    """Put what a query makes of a table's ``rows`` in their place."""
    snapshot = crypto.lake.snapshot(table)
    partitions = [dict(file.partition) for file in snapshot.files] or [{}]
    with duck.cursor() as con:
        con.execute(f"create temp table held as from {snapshot.scan()}")
        crypto.lake.replace(table, con, query.format(rows="held"), partitions)


ALTERED = "select * replace ({} as {}) from {{rows}}"
BREAKS: list[tuple[Callable[[Crypto], checks.Differences], Table, str]] = [
    (checks.ticks_not_counted, c.LIVE_DAILY_OHLC, ALTERED.format("ticks + 1", "ticks")),
    (checks.ticks_not_counted, c.LIVE_DAILY_OHLC, "from {rows} where symbol = 'BBBUSDT'"),
    (checks.days_not_replayed, c.LIVE_DAILY_OHLC, ALTERED.format("daily_low", "daily_close")),
    (checks.days_not_replayed, c.LIVE_DAILY_OHLC, ALTERED.format("last_offset + 1", "last_offset")),
    (checks.ticks_not_counted, c.LIVE_PRICES, 'from {rows} where "offset" <> 2'),
    (checks.ticks_not_counted, c.LIVE_PRICES, "from {rows} union all (from {rows} limit 1)"),
    (checks.ticks_not_counted, c.CONSUMED_SPANS, ALTERED.format("good - 1", "good")),
    (checks.ticks_not_counted, c.CONSUMED_SPANS, "from {rows} where partition = 0"),
    (checks.days_not_merged, c.MERGED_DAILY_OHLC, "from {rows} where source <> 'live'"),
    (checks.days_not_merged, c.MERGED_DAILY_OHLC, ALTERED.format("'live'", "source")),
    (checks.days_not_merged, c.MERGED_DAILY_OHLC, ALTERED.format("2 * daily_low", "daily_close")),
    (checks.days_not_merged, c.MERGED_DAILY_OHLC, "from {rows} where symbol = 'BBBUSDT'"),
    (checks.days_not_merged, c.MERGED_DAILY_OHLC, "from {rows} union all from {rows}"),
    (checks.days_missing, c.FILLED_SERIES, "from {rows} where not is_filled"),
    (checks.days_missing, c.MERGED_DAILY_OHLC, "from {rows} where date <> '2024-03-05'"),
]


@pytest.mark.parametrize(("check", "table", "query"), BREAKS)
def test_a_check_tells_of_what_it_is_for(
    fed: Crypto, check: Callable[[Crypto], checks.Differences], table: Table, query: str
) -> None:
    assert check(fed) == []
    twisted(fed, table, query)
    assert check(fed) != []


def test_days_on_their_way_are_no_difference(fed: Crypto) -> None:
    feed(fed, ("AAAUSDT", 9.0, NOON + timedelta(days=4, minutes=2)))
    assert checks.ticks_not_counted(fed) == []
    fed.live_daily_ohlc(fed.live_dates())
    assert checks.days_not_merged(fed) == []
    fed.merged_daily_ohlc(["AAAUSDT"])
    assert merged(fed, "AAAUSDT")[-1][1] == 9.0
    assert checks.days_not_merged(fed) == []


def test_the_topic_read_again_gives_the_same_days_or_is_told_apart(fed: Crypto) -> None:
    days = [FIRST + timedelta(days=day) for day in (0, 3, 4)]
    ticks = fed.lake.snapshot(c.LIVE_PRICES).scan()
    assert checks.days_not_replayed(fed, f"(from {ticks})", days) == []
    thinned = f"""(from {ticks} where "offset" <> 3)"""
    found = checks.days_not_replayed(fed, thinned, days)
    assert [(row["side"], row["ticks"]) for row in found] == [("missing", 1), ("too many", 2)]


def test_a_span_that_has_not_reached_live_prices_is_no_difference(fed: Crypto) -> None:
    schema = polars_schema(c.CONSUMED_SPANS)
    with duck.cursor() as con:
        found = con.sql(f"from {fed.lake.snapshot(c.CONSUMED_SPANS).scan()}").to_arrow_table()
    ledger = pl.DataFrame(found, schema=schema).with_columns(
        start=pl.col("stop"), stop=pl.col("stop") + pl.col("consumed")
    )
    fed.lake.append(c.CONSUMED_SPANS, ledger, "elsewhere", 1)
    assert checks.ticks_not_counted(fed) == []
