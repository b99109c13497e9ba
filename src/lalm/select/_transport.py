"""Entropic optimal transport between two sets of weighted points, and what its cost gains by more of a point."""

from __future__ import annotations

import numpy as np

_INNER = 100  # plain scalings between two steps in the log domain
_LARGEST = 1e100  # a scaling beyond it is taken up into the potentials at once


def potentials(
    cost: np.ndarray, a: np.ndarray, b: np.ndarray, epsilon: float, tolerance: float = 1e-3, max_rounds: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """Dual potentials f [n] and g [m] for the costs [n, m] between masses a [n] and b [m], each of sum 1.

    They solve min over plans P with these masses of <cost, P> + epsilon KL(P | a b). Sinkhorn's scaling, stabilised:
    each round begins with a step in the log domain, which no small epsilon can break, goes on with plain products of the
    matrix, which are faster by far, and takes their scalings up into the potentials (absorption: Schmitzer 2019,
    arXiv 1610.06519, section 3). It ends when the masses that the plan ships differ from `a` by less than `tolerance` in
    all, or after `max_rounds`.
    """
    g = np.zeros(cost.shape[1])
    for _ in range(max_rounds):
        f = conjugate(cost, g, b, epsilon)
        g = conjugate(cost.T, f, a, epsilon)
        plan = np.exp((f[:, None] + g - cost) / epsilon) * a[:, None] * b
        v = np.ones(len(g))
        for _ in range(_INNER):
            shipped = plan @ v
            u = a / shipped
            v = b / (u @ plan)
            if not max(u.max(), v.max(), 1 / u.min(), 1 / v.min()) < _LARGEST:
                break
        if np.isfinite(v).all():
            g = g + epsilon * np.log(v)
        if np.abs(shipped - a).sum() < tolerance:
            break
    return conjugate(cost, g, b, epsilon), g


def conjugate(cost: np.ndarray, g: np.ndarray, b: np.ndarray, epsilon: float) -> np.ndarray:
    """The best potentials f [n] for given g [m], also at points that bear no mass; costs [n, m], masses b [m]."""
    scaled = g - cost
    scaled /= epsilon
    scaled += np.log(b)
    top = scaled.max(axis=1)
    scaled -= top[:, None]
    np.exp(scaled, out=scaled)
    return -epsilon * (top + np.log(scaled.sum(axis=1)))


def calibrated(f: np.ndarray) -> np.ndarray:
    """Gradients of the transport cost in the mass of each point [n], taken evenly from the others.

    f_i minus the mean of the other f_j (GOT-D's calibrated gradient, arXiv 2405.02774, after LAVA, arXiv 2305.00054):
    potentials alone are known up to a constant, and a mass can only grow if others fall.
    """
    return (f - f.mean()) * len(f) / max(1, len(f) - 1)
