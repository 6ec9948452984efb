"""Where Prophet's optimiser starts: the mode of its posterior, found by linear algebra.

Prophet's linear-growth model is a straight line with kinks plus weighted columns, times or plus one
another, under normal noise: given the noise it is least squares with a ridge on all but the kinks,
whose Laplace prior makes them a lasso of some 25 numbers. From Prophet's own start its optimiser
takes about a thousand steps over all rows towards it, and mostly stops short. Started from here, it
looks around and stays. As it is only a start, an error here costs time and not correctness.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SETTLED = 1e-10
"""Relative gain of the log posterior below which another round is not worth it."""
MOST_ROUNDS = 200
_LINE_SD = 5.0  # the priors of prophet.stan: k, m ~ normal(0, 5); sigma_obs ~ normal(0, 0.5)
_SIGMA_SD = 0.5


@dataclass(frozen=True)
class _Model:
    """Prophet's posterior in matrices; ``trend = ramps @ line``, with line = (kinks, slope, level).

    Attributes:
        y: Scaled values, shape (n,).
        ramps: Shape (n, kinks + 2).
        added: Columns that add to the trend, shape (n, k), zero where they do not.
        multiplied: Columns that multiply it, likewise.
        ridge: Inverse prior variances of (slope, level, weights), shape (2 + k,).
        tau: Scale of the kinks' Laplace prior.
    """

    y: Floats
    ramps: Floats
    added: Floats
    multiplied: Floats
    ridge: Floats
    tau: float

    @property
    def kinks(self) -> int:
        return int(self.ramps.shape[1]) - 2

    def factors(self, theta: Floats) -> tuple[Floats, Floats]:
        """Trend, and what it is multiplied by."""
        at = self.kinks + 2
        return self.ramps @ theta[:at], 1 + self.multiplied @ theta[at:]

    def residual(self, theta: Floats) -> Floats:
        trend, factor = self.factors(theta)
        rest: Floats = self.y - trend * factor - self.added @ theta[self.kinks + 2 :]
        return rest

    def slopes(self, theta: Floats) -> Floats:
        """Derivative of the fitted values by each parameter, shape (n, parameters)."""
        trend, factor = self.factors(theta)
        weights = self.multiplied * trend[:, None] + self.added
        return np.column_stack([self.ramps * factor[:, None], weights])

    def cost(self, theta: Floats) -> tuple[float, float]:
        """Minus the log posterior at the best noise for ``theta``, and that noise."""
        rest = self.residual(theta)
        n, squares = len(rest), max(float(rest @ rest), 1e-300)
        prior = 1 / _SIGMA_SD**2  # the mode solves prior s^4 + n s^2 - squares = 0
        variance = 2 * squares / (n + np.sqrt(n * n + 4 * prior * squares))
        fit = 0.5 * n * np.log(variance) + squares / (2 * variance) + prior * variance / 2
        size = np.abs(theta[: self.kinks]).sum() / self.tau
        size += 0.5 * (self.ridge * theta[self.kinks :] ** 2).sum()
        return float(fit + size), float(np.sqrt(variance))


def posterior_mode(data: dict[str, Any], start: dict[str, Any]) -> dict[str, Any] | None:
    """The most probable parameters, from what Prophet hands to Stan.

    Args:
        data: Stan's data of a linear-growth model, arrays as Prophet made them.
        start: Prophet's own first guess.

    Returns:
        k, m, delta, beta and sigma_obs; None where the algebra breaks down.
    """
    model = _model(data)
    first = [start["delta"], [start["k"], start["m"]], start["beta"]]
    theta = np.concatenate([np.asarray(part, dtype=float) for part in first])
    try:
        theta, sigma = _descend(model, theta)
    except np.linalg.LinAlgError:
        return None
    if not (np.isfinite(theta).all() and sigma > 0):
        return None
    at = model.kinks
    return {
        "k": float(theta[at]),
        "m": float(theta[at + 1]),
        "delta": theta[:at],
        "beta": theta[at + 2 :],
        "sigma_obs": sigma,
    }


def _model(data: dict[str, Any]) -> _Model:
    t, changes = np.asarray(data["t"], float), np.asarray(data["t_change"], float)
    columns = np.asarray(data["X"], float)
    since = t[:, None] - changes
    return _Model(
        y=np.asarray(data["y"], float),
        ramps=np.column_stack([np.where(since >= 0, since, 0.0), t, np.ones(len(t))]),
        added=columns * np.asarray(data["s_a"], float),
        multiplied=columns * np.asarray(data["s_m"], float),
        ridge=np.append(np.full(2, _LINE_SD**-2), np.asarray(data["sigmas"], float) ** -2),
        tau=float(data["tau"]),
    )


def _descend(model: _Model, theta: Floats) -> tuple[Floats, float]:
    """Solve for the parameters at a fixed noise and linearised product, then again, until still."""
    cost, sigma = model.cost(theta)
    is_linear = not model.multiplied.any()
    gram = target = None
    for _ in range(MOST_ROUNDS):
        if gram is None or target is None or not is_linear:
            slopes = model.slopes(theta)
            gram = slopes.T @ slopes
            target = slopes.T @ (model.residual(theta) + slopes @ theta)
        goal = _solve(model, gram, target, sigma**2, theta[: model.kinks])
        step = 1.0
        moved, (lower, noise) = goal, model.cost(goal)
        while lower > cost and step > 1e-6:
            step /= 2
            moved = theta + step * (goal - theta)
            lower, noise = model.cost(moved)
        if lower > cost:
            break
        gain = cost - lower
        theta, cost, sigma = moved, lower, noise
        if gain <= SETTLED * (1 + abs(cost)):
            break
    return theta, sigma


def _solve(model: _Model, gram: Floats, target: Floats, variance: float, start: Floats) -> Floats:
    """Minimise the penalised squares: eliminate what has a ridge, then the kinks by lasso."""
    at = model.kinks
    inner = gram[at:, at:] + variance * np.diag(model.ridge)
    solved = np.linalg.solve(inner, np.column_stack([gram[at:, :at], target[at:]]))
    across, alone = solved[:, :at], solved[:, at]
    reduced = gram[:at, :at] - gram[:at, at:] @ across
    kinks = lasso(reduced, target[:at] - gram[:at, at:] @ alone, variance / model.tau, start)
    return np.append(kinks, alone - across @ kinks)


def lasso(gram: Floats, target: Floats, penalty: float, start: Floats) -> Floats:
    """Minimise x'Gx / 2 - b'x + penalty * sum |x| by feature-sign search, exact in few solves.

    Args:
        gram: G, positive definite, shape (k, k).
        target: b, shape (k,).
        penalty: Above 0.
        start: Where to begin, shape (k,).

    Source: Lee, Battle, Raina, Ng (2006), Efficient sparse coding algorithms, algorithm 1.
    """

    def cost(x: Floats) -> float:
        return float(x @ gram @ x / 2 - target @ x + penalty * np.abs(x).sum())

    x = start.copy()
    signs = np.sign(x)
    slack = 1e-9 * penalty
    for _ in range(50 * len(x) + 50):
        active = np.flatnonzero(signs)
        if len(active):
            x = _follow_signs(gram, target, penalty, x, signs, active, cost)
            stayed = bool((np.sign(x[active]) == signs[active]).all())
            signs = np.sign(x)
            if not stayed:
                continue
        slope = gram @ x - target
        worst = int(np.argmax(np.where(x == 0, np.abs(slope), -1.0)))
        if x[worst] != 0 or abs(slope[worst]) <= penalty + slack:
            return x
        signs[worst] = -np.sign(slope[worst])
    return x


def _follow_signs(
    gram: Floats, target: Floats, penalty: float, x: Floats, signs: Floats, active: Any, cost: Any
) -> Floats:
    """The best of the minimum for these signs and the points on the way where one changes."""
    goal = np.zeros_like(x)
    goal[active] = np.linalg.solve(
        gram[np.ix_(active, active)], target[active] - penalty * signs[active]
    )
    crossed = active[(np.sign(goal[active]) != signs[active]) & (x[active] != 0)]
    best, lowest = goal, cost(goal)
    for j in crossed:
        point = x + (goal - x) * (x[j] / (x[j] - goal[j]))
        point[j] = 0.0
        value = cost(point)
        if value < lowest:
            best, lowest = point, value
    return best
