"""Delta tables: contracts, snapshots, exactly-once commits, the DuckDB catalogue."""
