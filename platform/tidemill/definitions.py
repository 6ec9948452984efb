"""The one place where the asset graph is put together; nothing imports this module."""

import dagster as dg

import assets.crypto
import assets.events_live
import assets.events_reports
import assets.forecasts
import assets.live
import resources.environments
from sensors.backfill import crypto_backfill, hourly_backfill
from sensors.forecasts import daily_forecasts
from sensors.landing import (
    crypto_inbox,
    dropped_events,
    dropped_files,
    events_inbox,
    landed_candles,
)
from sensors.live_days import new_days
from sensors.reports import new_reports
from sensors.topics import new_events, new_prices
from sensors.upkeep import (
    crypto_upkeep,
    events_audit,
    events_hourly_upkeep,
    events_upkeep,
    hourly_audit,
    hourly_upkeep,
)


def build(environment: str) -> dg.Definitions:
    """The whole code location, with the resources of ``environment``."""
    modules = [
        assets.crypto,
        assets.forecasts,
        assets.live,
        assets.events_live,
        assets.events_reports,
    ]
    return dg.Definitions(
        assets=dg.load_assets_from_modules(modules, include_specs=True),
        asset_checks=dg.load_asset_checks_from_modules(modules),
        jobs=[
            assets.crypto.monthly_job,
            assets.crypto.series_job,
            assets.live.live_job,
            assets.live.audit_job,
            assets.forecasts.forecast_job,
            assets.events_live.live_job,
            assets.events_live.audit_job,
            assets.events_reports.reports_job,
            crypto_inbox,
            crypto_backfill,
            crypto_upkeep,
            events_inbox,
            events_upkeep,
        ],
        schedules=[
            hourly_backfill,
            hourly_upkeep,
            hourly_audit,
            daily_forecasts,
            events_hourly_upkeep,
            events_audit,
        ],
        sensors=[
            dropped_files,
            dropped_events,
            landed_candles,
            new_prices,
            new_events,
            new_reports,
            new_days,
            dg.AutomationConditionSensorDefinition(
                "follow_upstream",
                target=dg.AssetSelection.groups("crypto"),
                default_status=dg.DefaultSensorStatus.RUNNING,
                minimum_interval_seconds=10,
            ),
        ],
        # A step in a process of its own costs seconds; these take less.
        executor=dg.in_process_executor,
        resources=resources.environments.named(environment),
    )


defs = build(resources.environments.current())
