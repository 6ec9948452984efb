"""What is new among the events becomes runs over their reports."""

import json
import time

import dagster as dg

from assets import report
from assets.events_reports import OUTSIDE, reports_job
from sensors.landing import AT_WORK, RETRY_S
from tidemill.events import contracts as c
from tidemill.events.reports.build import Events

FAILED = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
EVERY_S = 120
"""Reports look at all events, so new messages are worth a run this often at most."""


@dg.sensor(
    job=reports_job,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def new_reports(
    context: dg.SensorEvaluationContext, events: dg.ResourceParam[Events]
) -> dg.SensorResult:
    """Asks for every report once files have landed, at once, or messages came, after a while.

    The cursor holds the tables' versions that were asked for last, and when. A run that failed is
    asked for again after a while.
    """
    told = json.loads(context.cursor or "{}")
    before = told.get("versions", [-1, -1])
    files, rows = (events.lake.snapshot(t).version for t in (c.LANDED_FILES, c.RAW_EVENTS))
    last = context.instance.get_runs(dg.RunsFilter(job_name=reports_job.name), limit=1)
    has_failed = bool(last) and last[0].status in FAILED
    if [files, rows] == before and not has_failed:
        return dg.SensorResult(skip_reason="the reports have all events")
    if context.instance.get_runs_count(dg.RunsFilter(job_name=reports_job.name, statuses=AT_WORK)):
        return dg.SensorResult(skip_reason="a run over the reports is at work")
    has_landed, now_s = files != before[0], time.time()
    wait_s = RETRY_S if has_failed else EVERY_S
    if not has_landed and now_s - told.get("at_s", 0) < wait_s:
        return dg.SensorResult(skip_reason=f"waits for {wait_s} s since the last run was asked for")
    return dg.SensorResult(
        asset_events=report.landed(events.lake, OUTSIDE) if has_landed else [],
        run_requests=[dg.RunRequest(run_key=f"{files} {rows} {now_s:.0f}")],
        cursor=json.dumps({"versions": [files, rows], "at_s": now_s}),
    )
