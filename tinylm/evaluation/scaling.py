"""Scaling laws: how the loss falls with parameters, data or compute."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.optimize


class PowerLaw(NamedTuple):
    """A loss that falls with size towards a floor, ``E + A * size ** -alpha``.

    Parameters
    ----------
    E : float
        What remains at any size, in nats, as the loss.
    A : float
        What a size of 1 adds to it.
    alpha : float
        The exponent: ten times the size divides what is above E by ``10 ** alpha``.

    Examples
    --------
    >>> from tinylm.evaluation import PowerLaw
    >>> float(PowerLaw(E=1.0, A=2.0, alpha=0.5)(4))
    2.0
    """

    E: float
    A: float
    alpha: float

    def __call__(self, sizes: Any) -> Any:
        """The loss at a size, or at each of several."""
        return self.E + self.A * np.asarray(sizes, np.float64) ** -self.alpha


def fit_power_law(sizes: Any, losses: Any) -> PowerLaw:
    r"""The law ``L(N) = E + A N^-alpha`` that is nearest to measured losses.

    Hoffmann et al. 2022, "Training compute-optimal large language models", eq. (2), in one variable;
    with E = 0 it is the law of Kaplan et al. 2020, "Scaling laws for neural language models", eq.
    (1.1). Nearest is meant in the logarithm, as in their eq. (3), but in least squares: ``sum (log
    L(N_i) - log L_i)^2``, over E >= 0, A > 0 and alpha >= 0. A run that counts for less, or that
    failed, is the caller's to leave out.

    Parameters
    ----------
    sizes : array_like, shape (K,)
        Parameters, tokens or operations: at least three different ones.
    losses : array_like, shape (K,)
        One for each size, above 0; several of one size are several runs.

    Returns
    -------
    PowerLaw
        With E, A and alpha; called with sizes, it gives losses.

    Raises
    ------
    ValueError
        If the two are not rows of one length, one of them is not finite or not above 0, there are
        fewer than three sizes, or A is out of the range of floats.

    Examples
    --------
    >>> import tinylm as tl
    >>> law = tl.fit_power_law([100, 200, 400, 800], [2.5, 2.0, 1.75, 1.625])
    >>> [round(x, 3) for x in law]  # 1.5 + 100 / N
    [1.5, 100.0, 1.0]
    >>> round(float(law(1600)), 4)
    1.5625
    """
    sizes, losses = _checked("fit_power_law", sizes, losses)
    different = np.unique(np.log(sizes)).size
    if different < 3:
        raise ValueError(f"fit_power_law: {different} different sizes: wanted at least 3")
    # so that a is the level in the middle, whatever alpha, and E in units of the lowest loss
    middle, lowest = np.mean(np.log(sizes)), np.min(np.log(losses))
    x, y = np.log(sizes) - middle, np.log(losses) - lowest

    def logarithms(parameters: Any) -> Any:
        """Of E + exp(a - alpha x), which is not computed itself: it may be out of range."""
        E, a, alpha = parameters
        with np.errstate(divide="ignore"):
            return np.logaddexp(np.log(E), a - alpha * x)

    def distances(parameters: Any) -> Any:
        return logarithms(parameters) - y

    def slopes(parameters: Any) -> Any:
        _, a, alpha = parameters
        level = logarithms(parameters)
        above = np.exp(a - alpha * x - level)
        return np.stack([np.exp(-level), above, -x * above], axis=1)

    slope, a = np.polyfit(x, y, 1)
    # the nearest with E = 0, to which a search inside the bounds only comes near
    candidates: list[Any] = [(0.0, a, max(-slope, 0.0))]
    for share in (0.1, 0.5, 0.9):
        slope, a = np.polyfit(x, y + np.log1p(-share * np.exp(-y)), 1)
        found = scipy.optimize.least_squares(
            distances,
            (share, a, max(-slope, 1e-3)),
            slopes,
            bounds=([0, -np.inf, 0], np.inf),
            xtol=1e-10, ftol=1e-10, gtol=1e-10,
        )  # fmt: skip
        candidates.append(found.x)
    E, a, alpha = min(candidates, key=lambda found: np.sum(distances(found) ** 2))
    log_A = a + lowest + alpha * middle
    with np.errstate(over="ignore"):
        A = float(np.exp(log_A))
    if not 0 < A < np.inf:
        raise ValueError(
            f"fit_power_law: the nearest law has alpha = {alpha:.4g} and A = exp({log_A:.4g}), out of "
            "the range of floats: wanted sizes in a unit in which they are near 1"
        )
    return PowerLaw(float(E * losses.min()), A, float(alpha))


def frontier(sizes: Any, losses: Any) -> Any:
    """Which runs no smaller one equals or betters: what is best for the compute.

    The lower envelope of the training curves, to which Kaplan et al. 2020, section 3.3, and Hoffmann
    et al. 2022, section 3.1, fit the law of the compute.

    Parameters
    ----------
    sizes : array_like, shape (K,)
    losses : array_like, shape (K,)

    Returns
    -------
    ndarray of int, shape (M,)
        Their places, by rising size and so by falling loss.

    Raises
    ------
    ValueError
        If the two are not rows of one length, or one of them is not finite or not above 0.

    Examples
    --------
    >>> from tinylm.evaluation import frontier
    >>> frontier([4, 1, 2, 3], [1.0, 3.0, 2.0, 2.5])
    array([1, 2, 0])
    """
    sizes, losses = _checked("frontier", sizes, losses)
    order = np.lexsort((losses, sizes))
    before = np.minimum.accumulate(np.concatenate([[np.inf], losses[order]]))[:-1]
    return order[losses[order] < before]


def _checked(name: str, sizes: Any, losses: Any) -> tuple[Any, Any]:
    sizes, losses = np.asarray(sizes, np.float64), np.asarray(losses, np.float64)
    if sizes.ndim != 1 or sizes.shape != losses.shape:
        raise ValueError(
            f"{name}: sizes has shape {sizes.shape}, losses has {losses.shape}: "
            "wanted two rows of one length"
        )
    for label, values in (("sizes", sizes), ("losses", losses)):
        wrong = values[~(np.isfinite(values) & (values > 0))]
        if wrong.size:
            raise ValueError(f"{name}: {label} has {wrong[0]}: wanted numbers above 0")
    return sizes, losses
