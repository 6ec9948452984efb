"""What a row of candles is judged against, as SQL that says why one is no good."""

from datetime import UTC, datetime

from tidemill.crypto.intake.files import NUMBERS, PRICES

FIRST_S = int(datetime(2010, 1, 1, tzinfo=UTC).timestamp())
"""No bar of a crypto market is older; the monthly partitions start here too."""


def reason(limit_s: int) -> str:
    """SQL that says why a row is no good, or NULL; cheap for a row that is good.

    It reads ``seconds``, the numbers by name, and each of them as it stands in the file under
    ``..._seen``.

    Args:
        limit_s: Bars from here on lie in the future.
    """
    limit = datetime.fromtimestamp(limit_s, UTC)
    positive = " and ".join(f"{n} > 0 and {n} < 'infinity'" for n in PRICES)
    sound = (
        f"seconds >= {FIRST_S} and seconds < {limit_s} and seconds = round(seconds) and {positive} "
        "and volume >= 0 and volume < 'infinity' "
        "and low <= open and low <= close and high >= open and high >= close"
    )
    day = "strftime(make_timestamp((seconds * 1e6)::BIGINT), '%Y-%m-%d')"
    tests = [
        "when time_seen is null then 'time: expected one, found nothing'",
        "when seconds is null or not isfinite(seconds) then "
        f"'time: expected Unix time or a date, found ' || {_seen('time')}",
        f"when seconds < {FIRST_S} or seconds >= {limit_s} then 'time: expected 2010-01-01 to "
        f"{limit:%Y-%m-%d}, found ' || {_seen('time')} || "
        f"case when abs(seconds) < 1e11 then ' (' || {day} || ')' else '' end",
        "when abs(seconds - round(seconds)) > 5e-4 then "
        f"'time: expected the start of a minute, found ' || {_seen('time')}",
    ]
    for n in NUMBERS:
        # NaN as text is an empty value; what is left that is not finite is no number or infinite.
        low = "at least 0" if n == "volume" else "above 0"
        broken = f"{n} < 0" if n == "volume" else f"{n} <= 0"
        tests += [
            f"when {n}_seen is not null and {n} is null then "
            f"'{n}: expected a number, found ' || {_seen(n)}",
            f"when not isfinite({n}) then '{n}: expected a finite number, found ' || {_seen(n)}",
            f"when {broken} then '{n}: expected {low}, found ' || {_seen(n)}",
        ]
    tests += [
        f"when high < low then 'high ' || {_seen('high')} || ' is below low ' || {_seen('low')}",
        *(
            f"when {n} < low or {n} > high then '{n} ' || {_seen(n)} || ' is outside low ' || "
            f"{_seen('low', 'unknown')} || ' to high ' || {_seen('high', 'unknown')}"
            for n in ("open", "close")
        ),
    ]
    return f"case when {sound} then null {' '.join(tests)} end"


def _seen(name: str, otherwise: str = "blanks") -> str:
    return f"coalesce(nullif(left(trim({name}_seen::VARCHAR), 60), ''), '{otherwise}')"
