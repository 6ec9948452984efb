"""Sample data for a first start: the seeded simulator's files, landed like anyone's."""

from pathlib import Path
from tempfile import TemporaryDirectory

from tidemill import compose
from tidemill.commands import show
from tidemill.settings import Settings


def land(settings: Settings) -> None:
    """Simulate the sample universe and land it; the faults in it show up in the reports."""
    from tidemill.crypto import simulator

    crypto = compose.crypto(settings)
    with TemporaryDirectory(prefix="tidemill-sample-") as folder:
        for market in simulator.sample_markets():
            path = Path(folder) / f"sample_{market.symbol}_1m.csv"
            truth = simulator.simulate(path, market)
            landed = crypto.landing.land_file(path)
            show.err.print(
                f"Sample {market.symbol}: {truth.rows:,} simulated minutes, "
                f"{sum(report.good for report in landed):,} good"
            )
