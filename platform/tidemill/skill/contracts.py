"""The skill ledger: no score without the baseline that it is to be held against."""

from tidemill.lake.contracts import Column, Table, Type

LEDGER = Table(
    domain="skill",
    name="ledger",
    meaning="Every score of every model on data that it did not see, beside its baseline's.",
    columns=(
        Column("domain", Type.STRING, "Room that the model belongs to."),
        Column("subject", Type.STRING, "What was forecast, as a symbol."),
        Column("model", Type.STRING, "Name of the model; a baseline has a row of its own."),
        Column("metric", Type.STRING, "Name of the measure, as mape or r2."),
        Column("value", Type.DOUBLE, "The model's, over all folds."),
        Column("baseline", Type.STRING, "Name of the baseline: the best one, on the same folds."),
        Column("baseline_value", Type.DOUBLE, "The baseline's."),
        Column(
            "skill",
            Type.DOUBLE,
            "Share of the baseline's error that the model saves: above 0 is better.",
        ),
        Column("n", Type.BIGINT, "Values that were forecast, over all folds.", low=1),
        Column("folds", Type.BIGINT, "Cutoffs that were forecast from.", low=1),
        Column("horizon", Type.BIGINT, "Steps ahead of a cutoff.", unit="rows", low=1),
        Column(
            "ci_low",
            Type.DOUBLE,
            "Lower end of the skill's 95 % interval; -1000000 for too few folds to tell one.",
        ),
        Column("ci_high", Type.DOUBLE, "Upper end of it; 1, all of the error, for too few folds."),
        Column(
            "p_value",
            Type.DOUBLE,
            "Of a difference from the baseline as large as this by chance, two-sided.",
            low=0.0,
            high=1.0,
        ),
        Column("is_leaky", Type.BOOLEAN, "Whether the model saw what it forecast."),
        Column("data_version", Type.BIGINT, "Version of the table that it learnt from.", low=0),
        Column("at", Type.TIMESTAMP, "When it was scored, UTC."),
    ),
    key=("domain", "subject", "model", "metric", "at"),
    rules={
        "ci_low <= skill <= ci_high": "ci_low <= skill and skill <= ci_high",
    },
)
