"""Sensors and schedules: they decide, runs read."""
