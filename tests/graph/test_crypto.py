"""The crypto assets materialized in this process, over a temporary lake."""

import os
import signal
import threading
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import assets.crypto as graph
from assets import report
from assets.partitions import months, symbol_months
from resources.home import CryptoResource
from tests.graph.conftest import House, make_all
from tidemill.crypto import checks
from tidemill.crypto import contracts as c
from tidemill.crypto.pending import Months
from tidemill.definitions import build, defs
from tidemill.engines.duck import DuckEngine, connection
from tidemill.errors import ContractError
from tidemill.lake.store import Written


def rows(house: House, table: str) -> pl.DataFrame:
    with connection() as con:
        con.execute(f"attach '{house.settings.catalogue}' as lake (read_only)")
        return pl.DataFrame(con.sql(f"select * from lake.crypto.{table}").to_arrow_table())


def test_every_table_is_made_and_every_check_holds(made: House) -> None:
    empty = {t.name for t in c.TABLES if made.crypto.lake.snapshot(t).rows == 0}
    live = {t.name for t in c.LIVE}
    assert empty <= {"rejected_rows", "raw_bars"} | live
    keys = {key.path[-1] for key in made.instance.all_asset_keys()}
    assert keys == {a.key.path[-1] for a in (*graph.monthly, *graph.symbolic)}


def test_daily_bars_are_the_simulators_own(made: House) -> None:
    want = pl.concat([truth.daily for truth in made.truth.values()]).sort("symbol", "date")
    got = rows(made, "daily_ohlc").select(want.columns).sort("symbol", "date")
    assert_frame_equal(got, want, rel_tol=1e-12)


def test_gaps_are_the_simulators_own(made: House) -> None:
    for symbol, truth in made.truth.items():
        got = rows(made, "candle_gaps").filter(pl.col("symbol") == symbol).sort("start")
        assert got["start"].dt.epoch("s").to_list() == truth.gaps["start_s"].to_list()
        assert got["end"].dt.epoch("s").to_list() == truth.gaps["end_s"].to_list()
        assert got["minutes"].to_list() == truth.gaps["minutes"].to_list()


def test_crashes_are_listed_and_kept(made: House) -> None:
    for symbol, truth in made.truth.items():
        jumps = rows(made, "price_jumps").filter(pl.col("symbol") == symbol, "is_over_50")
        assert set(truth.crashes["timestamp"]) <= set(jumps["timestamp"])
        raw = rows(made, "raw_candles").filter(pl.col("symbol") == symbol)
        assert set(truth.crashes["timestamp"]) <= set(raw["timestamp"])


def test_made_again_it_is_the_same_rows(house: House) -> None:
    make_all(house)
    before = {t.name: rows(house, t.name) for t in c.TABLES}
    assert make_all(house) == []
    for name, frame in before.items():
        order = frame.columns
        assert_frame_equal(rows(house, name).sort(order), frame.sort(order))


def test_ctrl_c_in_a_step_is_no_failed_step(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DuckEngine, "write", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        make_all(house)


def test_one_month_is_made_alone_and_the_others_stay(house: House) -> None:
    make_all(house)
    before = {f.relative for f in house.crypto.lake.snapshot(c.DAILY_OHLC).files}
    month = dg.MultiPartitionKey({"date": "2024-02-01", "symbol": "AAAUSDT"})
    result = dg.materialize(
        graph.monthly,
        partition_key=month,
        instance=house.instance,
        resources={"crypto": CryptoResource(home=str(house.settings.home))},
    )
    assert result.success
    after = {f.relative for f in house.crypto.lake.snapshot(c.DAILY_OHLC).files}
    assert len(before - after) == len(after - before) == 1
    assert all("symbol=AAAUSDT/year=2024/month=2/" in name for name in before ^ after)
    assert checks.rows_not_conserved(house.crypto) == []


def test_a_month_made_alone_fills_from_the_month_before(house: House, tmp_path: Path) -> None:
    lines = ["timestamp,open,high,low,close,volume"]
    lines += [f"{1706745600 - 60},1,1,1,7,1", f"{1706745600},,,,,", f"{1706745660},2,2,2,2,1"]
    path = tmp_path / "CCCUSDT.csv"
    path.write_text("\n".join(lines).replace(",1,1,1,7,", ",7,7,7,7,") + "\n")
    house.crypto.landing.land_file(path)
    house.crypto.raw_candles("CCCUSDT", Months(date(2024, 2, 1), date(2024, 2, 1)))
    got = rows(house, "raw_candles").filter(pl.col("symbol") == "CCCUSDT").sort("timestamp")
    assert got.select("close", "is_filled").rows() == [(7.0, True), (2.0, False)]


def test_lost_minutes_fail_the_check_that_counts_them(house: House) -> None:
    make_all(house)
    lake = house.crypto.lake
    with connection() as con:
        thin = f"select * from {lake.snapshot(c.RAW_CANDLES).scan()} where timestamp % 7200 <> 0"
        span = house.crypto.months("AAAUSDT")
        assert span is not None
        query = f"select * from ({thin}) where symbol = 'AAAUSDT'"
        lake.replace(c.RAW_CANDLES, con, query, span.partitions("AAAUSDT"))
    (lost,) = checks.rows_not_conserved(house.crypto)
    assert (lost["symbol"], lost["landed"] > lost["minutes"]) == ("AAAUSDT", True)
    (uncounted,) = checks.minutes_not_counted(house.crypto)
    assert uncounted["symbol"] == "AAAUSDT"


def test_a_broken_contract_fails_its_check_and_stops_what_is_downstream(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_all(house)

    def twisted(self: object, symbol: str, span: Months) -> object:
        lake = house.crypto.lake
        with connection() as con:
            scan = lake.snapshot(c.RAW_CANDLES).within(span.partitions(symbol)).scan()
            query = f"select * replace (low + 1000000 as low) from {scan}"
            return lake.replace(c.RAW_CANDLES, con, query, span.partitions(symbol))

    asset = graph.by_month(c.RAW_CANDLES, lambda crypto, s, m: twisted(crypto, s, m), [])  # type: ignore[arg-type, return-value]
    result = dg.materialize(
        [asset, graph.daily_ohlc],
        partition_key=dg.MultiPartitionKey({"date": "2024-02-01", "symbol": "AAAUSDT"}),
        instance=house.instance,
        resources={"crypto": CryptoResource(home=str(house.settings.home))},
        raise_on_error=False,
    )
    (evaluation,) = [e for e in result.get_asset_check_evaluations() if not e.passed]
    assert evaluation.check_name == "keeps_contract"
    made = [key.path[-1] for e in result.get_asset_materialization_events() if (key := e.asset_key)]
    assert "daily_ohlc" not in made


@pytest.mark.parametrize(
    ("error", "tries"), [(OSError("disk"), 3), (ContractError("rows break a rule"), 1)]
)
def test_a_step_is_tried_again_where_that_can_help(
    house: House, monkeypatch: pytest.MonkeyPatch, error: Exception, tries: int
) -> None:
    calls = []

    def failing(crypto: object, symbols: Sequence[str]) -> Written:
        calls.append(symbols)
        raise error

    monkeypatch.setattr(report, "RETRY_S", 0)
    house.instance.add_dynamic_partitions("symbol", ["AAAUSDT"])
    result = dg.materialize(
        [graph.by_symbol(c.RAW_BARS, failing, [], {"duckdb"})],
        partition_key="AAAUSDT",
        instance=house.instance,
        resources={"crypto": CryptoResource(home=str(house.settings.home))},
        raise_on_error=False,
    )
    assert not result.success
    assert calls == [["AAAUSDT"]] * tries


def test_a_step_whose_query_a_signal_ends_is_ended() -> None:
    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, end)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    try:
        with pytest.raises(KeyboardInterrupt), report.tried_again():
            duckdb.execute("select sum(sqrt(i)) from range(1_000_000_000) t(i)")
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_is_reported_of_a_table_comes_with_it(made: House) -> None:
    event = made.instance.get_latest_materialization_event(graph.daily_ohlc.key)
    assert event is not None and event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    wanted = {"dagster/row_count", "bytes", "seconds", "preview", "sql"}
    assert wanted <= set(metadata)
    days = {truth.daily.height for truth in made.truth.values()}
    assert metadata["rows written"].value in days
    assert metadata["dagster/row_count"].value == sum(t.daily.height for t in made.truth.values())


def test_the_gaps_carry_their_counts_by_class_and_the_longest(made: House) -> None:
    event = made.instance.get_latest_materialization_event(graph.candle_gaps.key)
    assert event is not None and event.asset_materialization is not None
    told = str(event.asset_materialization.metadata["gap report AAAUSDT"].value).splitlines()
    gaps = made.crypto.read(c.CANDLE_GAPS, "AAAUSDT")
    for name in gaps["class"].unique():
        of_class = gaps.filter(pl.col("class") == name)
        assert f"| {name} | {of_class.height:,} | {of_class['minutes'].sum():,} |" in told
    longest = sorted(gaps["minutes"], reverse=True)[:3]
    assert [int(line.split("|")[3].replace(",", "")) for line in told[-3:]] == longest


def test_the_series_carry_charts(made: House) -> None:
    for asset, charts in (
        (graph.filled_series, ("candles", "averages")),
        (graph.candle_gaps, ("gaps",)),
    ):
        event = made.instance.get_latest_materialization_event(asset.key)
        assert event is not None and event.asset_materialization is not None
        shown = event.asset_materialization.metadata
        for chart in charts:
            assert "data:image/png;base64," in str(shown[f"{chart} AAAUSDT"].value)


def test_a_range_with_a_hole_is_refused() -> None:
    with pytest.raises(Exception, match="without gaps"):
        Months.of([date(2024, 1, 1), date(2024, 3, 1)])


@pytest.mark.parametrize("environment", ["local", "cluster"])
def test_every_environment_composes(
    environment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TIDEMILL_HOME", str(tmp_path))
    dg.Definitions.validate_loadable(build(environment))


def test_no_definition_passes_twenty_thousand_partitions_for_95_symbols() -> None:
    assert len(months.get_partition_keys()) * 95 < 20_000
    definitions = {a.partitions_def for a in defs.resolve_all_asset_specs() if a.partitions_def}
    assert symbol_months in definitions


def test_every_partitioned_asset_takes_a_range_in_one_run() -> None:
    for asset in (*graph.monthly, *graph.symbolic):
        assert asset.backfill_policy == dg.BackfillPolicy.single_run()
