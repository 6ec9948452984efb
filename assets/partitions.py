"""The partitions of every asset, defined once."""

import dagster as dg

symbols = dg.DynamicPartitionsDefinition(name="symbol")
# To the next month, as a bar may be a day ahead of this machine's clock.
months = dg.MonthlyPartitionsDefinition(start_date="2010-01-01", timezone="UTC", end_offset=2)
symbol_months = dg.MultiPartitionsDefinition({"symbol": symbols, "date": months})
