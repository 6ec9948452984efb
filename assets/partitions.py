"""The partitions of every asset, defined once."""

import dagster as dg

symbols = dg.DynamicPartitionsDefinition(name="symbol")
months = dg.MonthlyPartitionsDefinition(start_date="2010-01-01", timezone="UTC", end_offset=1)
symbol_months = dg.MultiPartitionsDefinition({"symbol": symbols, "date": months})
