"""Each report of a real clickstream file is what a query over the CSV gives that shares no code.

The file is not part of this repository. ``TIDEMILL_REAL_DATA`` names the folder that has it under
``events/``; its default is ``shared/data`` beside the repository.
"""

import os
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import pytest

from tidemill.engines.duck import DuckEngine, connection
from tidemill.events import contracts as c
from tidemill.events.reports import checks
from tidemill.events.reports import contracts as r
from tidemill.events.reports.build import Events
from tidemill.lake.contracts import Table
from tidemill.lake.store import Lake

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("TIDEMILL_REAL_DATA", ROOT.parent / "shared" / "data"))
FILE = DATA / "events" / "2019-Oct_first17k.csv.gz"
ROWS = 17_429  # 17,435 of which the last is cut and 5 repeat another

pytestmark = pytest.mark.skipif(
    not FILE.is_file(), reason=f"{FILE} is not there: set TIDEMILL_REAL_DATA"
)

MEASURES = """
    count(*) filter (event_type = 'view') as views, count(*) filter (event_type = 'cart') as carts,
    count(*) filter (event_type = 'purchase') as purchases, count(*) as events,
    coalesce(sum(price) filter (event_type = 'purchase'), 0) as revenue
"""
RATES = "carts / nullif(views, 0), purchases / nullif(views, 0)"
NAMES = [
    "event_time",
    "event_type",
    "product_id",
    "category_id",
    "category_code",
    "brand",
    "price",
    "user_id",
    "user_session",
]
QUERIES = {
    r.BRAND_REPORT: f"""
        with m as (select brand, {MEASURES} from e group by brand)
        select 'files', *, {RATES}, row_number() over (order by revenue desc, brand nulls last)
        from m
    """,
    r.CATEGORY_REPORT: f"""
        with m as (select category_code, split_part(category_code, '.', 1), {MEASURES}
                   from e group by all)
        select 'files', *, {RATES},
            row_number() over (order by revenue desc, category_code nulls last)
        from m
    """,
    r.FUNNEL: f"""
        with s as (select {MEASURES} from e where user_session is not null group by user_session),
        m as (select 'events' as level, {MEASURES} from e
              union all select 'sessions', count(*) filter (views > 0),
                  count(*) filter (carts > 0), count(*) filter (purchases > 0), 0, 0 from s)
        select 'files', level, views, carts, purchases, carts / views, purchases / views,
            purchases / carts from m
    """,
    r.SESSIONS: f"""
        with v as (select *, min(moment) filter (event_type = 'view')
                   over (partition by user_session) as first_view from e),
        m as (select user_session, min(user_id) as user_id, count(distinct user_id) as users,
                  count(*) as events, {MEASURES.replace("count(*) as events,", "")},
                  min(moment) as first_at, max(moment) as last_at,
                  any_value(first_view) as first_view,
                  min(moment) filter (event_type = 'purchase') as first_purchase,
                  min(moment) filter (event_type = 'purchase' and moment >= first_view) as bought
              from v group by user_session)
        select 'files', user_session, user_id, users, events, views, carts, purchases, revenue,
            first_at, last_at, epoch(last_at - first_at), first_view, first_purchase,
            epoch(bought - first_view),
            case when purchases > 0 then 'purchase' when carts > 0 then 'cart'
                 when views > 0 then 'view' else 'other' end
        from m
    """,
    c.VISITS: f"""
        with g as (select *, coalesce(moment - lag(moment)
                       over (partition by user_id order by moment) >= interval 30 minutes, true)
                   as is_new from e),
        n as (select *, sum(is_new::int) over (partition by user_id order by moment rows unbounded
                  preceding) as nth from g)
        select 'files', user_id, min(moment), max(moment) + interval 30 minutes, count(*),
            {MEASURES.replace("count(*) as events,", "")}, epoch(max(moment) - min(moment)), true,
            min(moment)::date
        from n group by user_id, nth
    """,
    r.COHORTS: """
        select 'files', date '2019-09-30', 0, count(distinct user_id), count(distinct user_id), 1.0
        from e
    """,
    r.PROFILE_OVERALL: f"""
        select 'files', count(*), count(*) * 9,
            {" + ".join(f"count_if({n} is null)" for n in NAMES)},
            ({" + ".join(f"count({n})" for n in NAMES)}) / (9 * count(*)), 'category_code',
            count(category_code) / count(*), min(moment), max(moment), count(distinct user_id),
            count(distinct user_session), count_if(user_session is null) from e
    """,
    r.PROFILE_NUMBERS: """
        with k as (select event_type, price::double as price from e
                   union all select 'all', price::double from e)
        select 'files', event_type, count(*), avg(price), stddev_samp(price), min(price),
            quantile_cont(price, 0.25), quantile_cont(price, 0.5), quantile_cont(price, 0.75),
            max(price) from k group by event_type
    """,
    r.PROFILE_PRICES: """
        with k as (select event_type, price from e union all select 'all', price from e),
        b(band, low, high) as (values ('0-50', 0.0, 50.0), ('50-100', 50.0, 100.0),
            ('100-200', 100.0, 200.0), ('200-500', 200.0, 500.0), ('500-1000', 500.0, 1000.0),
            ('1000+', 1000.0, null))
        select 'files', event_type, band, low, high,
            count(*) filter (price >= low and (high is null or price < high)),
            count(*) filter (price >= low and (high is null or price < high)) / count(*)
        from k, b group by all
    """,
    r.PROFILE_VALUES: """
        with v as (
            select 'event_type' as dimension, event_type as value, count(*) as n from e group by all
            union all select 'hour', strftime(moment, '%H'), count(*) from e group by all
            union all select 'weekday', dayname(moment), count(*) from e group by all
            union all select 'top_category', split_part(category_code, '.', 1), count(*) from e
                group by all
            union all from (select 'brand', brand, count(*) as n from e group by all
                order by n desc, brand nulls last limit 20))
        select 'files', *, n / (select count(*) from e) from v
    """,
}


@pytest.fixture(scope="module")
def csv() -> Iterator[duckdb.DuckDBPyConnection]:
    """The file as table ``e``: once each row, typed, the cut line left out."""
    with duckdb.connect() as con:
        con.execute(
            f"""
            create table e as select distinct event_time, event_type, product_id::bigint
                as product_id, category_id::bigint as category_id, category_code, brand,
                price::decimal(18, 2) as price, user_id::bigint as user_id, user_session,
                strptime(event_time, '%Y-%m-%d %H:%M:%S UTC') as moment
            from read_csv('{FILE}', all_varchar = true, null_padding = true)
            where user_session is not null
            """
        )
        yield con


@pytest.fixture(scope="module")
def events(csv: duckdb.DuckDBPyConnection, tmp_path_factory: pytest.TempPathFactory) -> Events:
    """Every report of the file's events."""
    folder = tmp_path_factory.mktemp("real")
    made = Events(Lake(folder / "lake", None, (*c.TABLES, *r.TABLES)), DuckEngine(), folder)
    rows = """
        select event_time, moment as event_timestamp, event_type, product_id, category_id,
            category_code, brand, price::double as price, user_id, user_session,
            'files' as source, 'f' as file_id, row_number() over () as line, moment as ingested_at,
            moment::date as date from e
    """
    found = csv.sql(f"select * from ({rows})").to_arrow_table()
    with connection() as con:
        con.register("rows", found)
        made.lake.replace(c.FILE_EVENTS, con, "from rows", [{"file_id": "f", "date": "2019-10-01"}])
    made.all()
    return made


def in_order(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Money and shares as doubles, and the rows by what is not one of them."""
    plain = [tuple(float(v) if type(v).__name__ == "Decimal" else v for v in row) for row in rows]
    return sorted(plain, key=lambda row: [str(v) for v in row if not isinstance(v, float)])


def floats(row: tuple[Any, ...]) -> list[float]:
    return [v for v in row if isinstance(v, float)]


@pytest.mark.parametrize("table", QUERIES, ids=lambda table: str(table.name))
def test_a_report_of_the_real_file_is_that_of_a_query_over_it(
    table: Table, events: Events, csv: duckdb.DuckDBPyConnection
) -> None:
    assert csv.execute("select count(*) from e").fetchone() == (ROWS,)
    want = in_order(csv.execute(QUERIES[table]).fetchall())
    has = in_order(events.read(table).rows())
    assert len(has) == len(want) > 0
    for one, other in zip(has, want, strict=True):
        assert [v for v in one if not isinstance(v, float)] == [
            v for v in other if not isinstance(v, float)
        ]
        assert floats(one) == pytest.approx(floats(other), rel=1e-9, abs=1e-9)


def test_the_profile_of_each_column_is_that_of_a_query_over_it(
    events: Events, csv: duckdb.DuckDBPyConnection
) -> None:
    has = {row["column"]: row for row in events.read(r.PROFILE_COLUMNS).to_dicts()}
    assert list(has) == NAMES
    for name, row in has.items():
        want = (
            csv.execute(
                f"select count(*), count(*) - count({name}), count(distinct {name}), "
                f"min({name})::VARCHAR, max({name})::VARCHAR from e"
            ).fetchone()
            or ()
        )
        assert (row["rows"], row["missing"], row["distinct"]) == want[:3]
        ends = (None, None) if name.startswith("user") else want[3:]
        ends = tuple(f"{end}00" for end in ends) if name == "price" else ends
        assert (row["min"], row["max"]) == ends
    kinds = {name: row["cardinality"] for name, row in has.items()}
    assert (kinds["event_type"], kinds["brand"], kinds["user_id"]) == ("low", "medium", "high")


def test_the_anomalies_of_the_real_file_are_those_of_a_loop_over_its_minutes(
    events: Events, csv: duckdb.DuckDBPyConnection
) -> None:
    start = datetime(2019, 10, 1)
    counts: dict[tuple[str, int], int] = {}
    for kind, at in csv.execute("select event_type, moment from e").fetchall():
        key = kind, (at - start) // timedelta(minutes=1)
        counts[key] = counts.get(key, 0) + 1
    first, last = min(m for _, m in counts), max(m for _, m in counts)
    want = []
    for kind in sorted({kind for kind, _ in counts}):
        for minute in range(first + 20, last):
            past = [counts.get((kind, m), 0) for m in range(max(first, minute - 60), minute)]
            middle = median(past)
            mad = median(abs(n - middle) for n in past)
            n = counts.get((kind, minute), 0)
            score = 0.6745 * (n - middle) / max(mad, middle**0.5, 1)
            if abs(score) >= 6:
                want.append((kind, start + timedelta(minutes=minute), n, middle, mad, score))
    has = events.read(r.ANOMALIES).sort("event_type", "window_start")
    rows = has.select("event_type", "window_start", "count", "median", "mad", "score").rows()
    assert [row[:2] for row in rows] == [row[:2] for row in want]
    for one, other in zip(rows, want, strict=True):
        assert one[2:] == pytest.approx(other[2:])


def test_the_reports_of_the_real_file_add_up(events: Events) -> None:
    assert checks.reports_add_up(events) == []
    assert checks.sessions_add_up(events) == []
    assert checks.anomalies_add_up(events) == []
    assert events.read(c.VISITS)["date"].unique().to_list() == [date(2019, 10, 1)]
