"""Tidemill's library: lake, engines and one room per domain; only ``definitions`` knows Dagster."""
