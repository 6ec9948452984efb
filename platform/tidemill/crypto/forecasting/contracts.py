"""The tables of forecasts, each declared once."""

from tidemill.crypto.contracts import QUOTE, SYMBOL
from tidemill.lake.contracts import Column, Table, Type

MODEL = Column("model", Type.STRING, "Name of the model, as the skill ledger has it.")
CUTOFF = Column("cutoff", Type.DATE, "The last day that the model knew.")
DS = Column("ds", Type.DATE, "UTC calendar day that is forecast.")
AHEAD = Column("ahead", Type.INT, "Days from the cutoff to it.", unit="d", low=1)
IS_LEAKY = Column("is_leaky", Type.BOOLEAN, "Whether the model saw what it forecast.")
PERCENT = "%"


def _price(name: str, meaning: str, nullable: bool = False) -> Column:
    return Column(name, Type.DOUBLE, meaning, unit=QUOTE, nullable=nullable)


def _mape(name: str, meaning: str, nullable: bool = False) -> Column:
    return Column(name, Type.DOUBLE, meaning, unit=PERCENT, nullable=nullable, low=0.0)


FORECASTS = Table(
    domain="crypto",
    name="forecasts",
    meaning="What the champion and the best Prophet recipe forecast from each cutoff of the test "
    "part, and 30 days ahead.",
    columns=(
        DS,
        _price("yhat", "Forecast of the day's close."),
        _price("yhat_lower", "Lower end of the calibrated 80 % interval.", nullable=True),
        _price("yhat_upper", "Upper end of it.", nullable=True),
        _price("trend", "Of a Prophet model, its trend; NULL of others.", nullable=True),
        _price("weekly", "What its weekly season adds to the trend.", nullable=True),
        _price("yearly", "What its yearly season adds.", nullable=True),
        _price("holidays", "What its named days add.", nullable=True),
        MODEL,
        Column("is_champion", Type.BOOLEAN, "Whether it is the model to believe."),
        CUTOFF,
        AHEAD,
        Column("is_ahead", Type.BOOLEAN, "Whether the day was still to come at the last cutoff."),
        Column("data_version", Type.BIGINT, "Version of prophet_input that it learnt from.", low=0),
        SYMBOL,
    ),
    key=("symbol", "model", "cutoff", "ds"),
    partition_by=("symbol",),
    sort_by=("cutoff", "ds"),
    rules={
        "yhat_lower <= yhat <= yhat_upper": "yhat_lower is null or "
        "(yhat_lower <= yhat and yhat <= yhat_upper)"
    },
)

FORECAST_METRICS = Table(
    domain="crypto",
    name="forecast_metrics",
    meaning="Each model's error on the test part, beside the best baseline's on the same folds.",
    columns=(
        MODEL,
        Column("is_champion", Type.BOOLEAN, "Whether cross-validation chose it."),
        Column("is_baseline", Type.BOOLEAN, "Whether it is what others are held against."),
        Column("mse", Type.DOUBLE, "Mean squared error.", unit="quote asset squared", low=0.0),
        _mape(
            "mape",
            "Mean absolute percentage error on the test part, days of price 0 left out.",
            nullable=True,
        ),
        _mape("cv_mape", "The same inside the training part; NULL where not run.", nullable=True),
        Column("mode", Type.STRING, "Seasonality: additive or multiplicative.", nullable=True),
        Column("prior", Type.DOUBLE, "Changepoint prior scale.", nullable=True, low=0.0),
        Column("coverage", Type.DOUBLE, "Share of days inside the 80 % interval.", nullable=True),
        Column("n", Type.BIGINT, "Days forecast, over all folds.", low=1),
        Column("folds", Type.BIGINT, "Cutoffs.", low=1),
        Column(
            "metric", Type.STRING, "What skill, interval and p are of: mape, of prices with 0 mase."
        ),
        Column("baseline", Type.STRING, "Name of the best baseline."),
        _mape("baseline_mape", "Its error on the test part.", nullable=True),
        Column("skill", Type.DOUBLE, "Share of the baseline's error that it saves, by the metric."),
        Column("ci_low", Type.DOUBLE, "Lower end of the skill's 95 % interval."),
        Column("ci_high", Type.DOUBLE, "Upper end of it."),
        Column("dm_p", Type.DOUBLE, "Diebold-Mariano p-value, two-sided.", low=0.0, high=1.0),
        IS_LEAKY,
        SYMBOL,
    ),
    key=("symbol", "model"),
    partition_by=("symbol",),
    sort_by=("mape",),
)

ACTUAL_VS_PREDICTED = Table(
    domain="crypto",
    name="actual_vs_predicted",
    meaning="Each day of the test part beside what the champion and the best Prophet forecast.",
    columns=(
        DS,
        _price("y", "The day's close."),
        _price("yhat", "Forecast of it."),
        _price("error", "y - yhat."),
        _price("abs_error", "Its size."),
        Column(
            "pct_error",
            Type.DOUBLE,
            "Its size as a share of y; NULL where y is 0.",
            unit=PERCENT,
            nullable=True,
            low=0.0,
        ),
        MODEL,
        CUTOFF,
        AHEAD,
        SYMBOL,
    ),
    key=("symbol", "model", "cutoff", "ds"),
    partition_by=("symbol",),
    sort_by=("cutoff", "ds"),
)

FORECAST_ABLATION = Table(
    domain="crypto",
    name="forecast_ablation",
    meaning="What the moving averages are worth to Prophet: without, with one, with both, honest "
    "and leaky.",
    columns=(
        MODEL,
        Column("regressors", Type.STRING, "Which ones: none, ma7 or ma7+ma30."),
        IS_LEAKY,
        _mape("mape", "Mean absolute percentage error on the test part.", nullable=True),
        _mape("naive_mape", "That of tomorrow = today, on the same folds.", nullable=True),
        Column("n", Type.BIGINT, "Days forecast, over all folds.", low=1),
        Column("folds", Type.BIGINT, "Cutoffs.", low=1),
        SYMBOL,
    ),
    key=("symbol", "model"),
    partition_by=("symbol",),
    sort_by=("regressors", "is_leaky"),
)

FORECAST_MODELS = Table(
    domain="crypto",
    name="forecast_models",
    meaning="The champion of each symbol and its best Prophet model, with all that is needed to "
    "forecast again.",
    columns=(
        MODEL,
        Column("is_champion", Type.BOOLEAN, "Whether it is the model to believe."),
        CUTOFF,
        Column("data_version", Type.BIGINT, "Version of prophet_input that it learnt from.", low=0),
        Column("recipe", Type.STRING, "Of a Prophet model, its settings as JSON.", nullable=True),
        Column("fitted", Type.STRING, "Of a Prophet model, itself as JSON.", nullable=True),
        Column("reason", Type.STRING, "Why it was chosen."),
        SYMBOL,
    ),
    key=("symbol", "model"),
    partition_by=("symbol",),
)

TABLES = (
    FORECASTS,
    FORECAST_METRICS,
    ACTUAL_VS_PREDICTED,
    FORECAST_ABLATION,
    FORECAST_MODELS,
)
