"""Rows into parts, parts into windows: Ibis expressions that are the same on every engine.

Parts have the keys, start_ms and end_ms (epoch ms) and the sums. Those of one window merge into one
in any order and any pieces, so a batch, a stream of small batches and a tail come to the same.
"""

from typing import Any

from tidemill.windows.declare import Session, Windows


def unit_parts(windows: Windows, rows: Any) -> Any:
    """Parts, several a window, of the rows that count.

    Args:
        windows: The declaration.
        rows: What its ``units`` takes.
    """
    units = windows.units(rows)
    at_ms, mark_ms = epoch_ms(units.at), epoch_ms(units.watermark)
    kind = windows.kind
    if isinstance(kind, Session):
        alone = units.mutate(start_ms=at_ms, end_ms=at_ms + kind.gap_ms, mark_ms=mark_ms)
        return _stretches(windows, kind, alone.filter(_is_open(alone)))
    pane_ms = floor_ms(at_ms, kind.slide_ms)
    # The windows of a pane end after the mark: all but for late rows, which are few.
    is_whole = (mark_ms < pane_ms + kind.slide_ms).coalesce(True)
    panes = units.mutate(pane_ms=pane_ms, mark_ms=is_whole.ifelse(_null(), mark_ms))
    names = (*windows.keys, "pane_ms", "mark_ms")
    summed = panes.group_by(*names).agg(**_added(windows, panes))
    found = [
        summed.mutate(start_ms=start, end_ms=start + kind.size_ms)
        for start in (
            summed.pane_ms - n * kind.slide_ms for n in range(kind.size_ms // kind.slide_ms)
        )
    ]
    return _union([_listed(windows, part.filter(_is_open(part))) for part in found])


def merged(windows: Windows, parts: Any) -> Any:
    """Parts, one a window, of parts in any number."""
    if isinstance(windows.kind, Session):
        return _sessions(windows, parts)
    names = (*windows.keys, "start_ms", "end_ms")
    return _listed(windows, parts.group_by(*names).agg(**_added(windows, parts)))


def table_parts(windows: Windows, rows: Any) -> Any:
    """Parts of the table's own rows."""
    told = windows.parts(rows)
    return _listed(
        windows,
        told.mutate(start_ms=epoch_ms(told.window_start), end_ms=epoch_ms(told.window_end)),
    )


def table_rows(windows: Windows, parts: Any, closing: Any) -> Any:
    """The table's rows out of parts, one a window.

    Args:
        windows: The declaration.
        parts: Merged.
        closing: One row, closed_ms: the watermark of all partitions, NULL where there is none. Or
            one for each value of those keys that it has too.
    """
    shared = [name for name in windows.keys if name in closing.columns]
    known = parts.join(closing, shared) if shared else parts.cross_join(closing)
    told = known.mutate(
        window_start=instant(known.start_ms),
        window_end=instant(known.end_ms),
        is_final=(known.end_ms + windows.hold_ms <= known.closed_ms).coalesce(False),
        date=instant(known.start_ms).date(),
    )
    shown = windows.shown(told)
    return shown.select(*[column.name for column in windows.table.columns])


def advanced(windows: Windows, open_windows: Any, rows: Any, closing: Any) -> Any:
    """The windows that were open, with more rows: those that are now final, and the others.

    Args:
        windows: The declaration.
        open_windows: The table's rows that are not final.
        rows: Rows that none of them has.
        closing: As ``table_rows`` takes it.
    """
    parts = _union([table_parts(windows, open_windows), unit_parts(windows, rows)])
    return table_rows(windows, merged(windows, parts), closing)


def whole(windows: Windows, rows: Any, closing: Any) -> Any:
    """All windows of some rows in one pass: the batch."""
    return table_rows(windows, merged(windows, unit_parts(windows, rows)), closing)


def instant(epoch: Any) -> Any:
    """A TIMESTAMP of epoch milliseconds."""
    import ibis

    return ibis.timestamp("1970-01-01") + epoch.as_interval("ms")


def epoch_ms(at: Any) -> Any:
    """Epoch milliseconds of a TIMESTAMP."""
    # DuckDB's epoch has a fraction, which a cast would round; Spark's has none, and before 1970 it
    # is the second after it. Of whole seconds both give the same.
    seconds = at.truncate("s").epoch_seconds().cast("int64")
    return seconds * 1000 + at.millisecond().cast("int64")


def floor_ms(at_ms: Any, size_ms: int) -> Any:
    """The beginning of the stretch of a size, counted from the epoch on, that an instant is in."""
    return at_ms - (at_ms % size_ms + size_ms) % size_ms


def _stretches(windows: Windows, kind: Session, alone: Any) -> Any:
    """Parts of rows: those of a stretch of a gap's length are closer than a gap, so they are one.

    What is sorted later is a row a stretch, and not a row an event.
    """
    told = alone.mutate(stretch_ms=floor_ms(alone.start_ms, kind.gap_ms))
    folded = told.group_by(*windows.keys, "stretch_ms").agg(
        start_ms=told.start_ms.min(), end_ms=told.end_ms.max(), **_added(windows, told)
    )
    return _listed(windows, folded)


def _sessions(windows: Windows, parts: Any) -> Any:
    """Parts that touch become one: each begins before those before it have ended."""
    import ibis

    by = list(windows.keys)
    before = ibis.window(group_by=by, order_by=["start_ms", "end_ms"], preceding=(None, 1))
    upto = ibis.window(group_by=by, order_by=["start_ms", "end_ms"], preceding=None, following=0)
    ends = parts.mutate(before_ms=parts.end_ms.max().over(before))
    firsts = ends.mutate(is_first=(ends.start_ms >= ends.before_ms).coalesce(True).cast("int64"))
    numbered = firsts.mutate(session=firsts.is_first.sum().over(upto))
    joined = numbered.group_by(*by, "session").agg(
        start_ms=numbered.start_ms.min(), end_ms=numbered.end_ms.max(), **_added(windows, numbered)
    )
    return _listed(windows, joined)


def _is_open(parts: Any) -> Any:
    return (parts.end_ms > parts.mark_ms).coalesce(True)


def _added(windows: Windows, parts: Any) -> dict[str, Any]:
    return {name: parts[name].sum().cast("int64") for name in windows.sums}


def _listed(windows: Windows, parts: Any) -> Any:
    return parts.select(*windows.part_columns())


def _union(parts: list[Any]) -> Any:
    found = parts[0]
    for part in parts[1:]:
        found = found.union(part)
    return found


def _null() -> Any:
    import ibis

    return ibis.null("int64")
