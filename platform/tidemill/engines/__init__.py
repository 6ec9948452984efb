"""DuckDB and Spark: run one transform over lake tables, to the same rows."""
