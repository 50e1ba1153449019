"""The weighting of a set of points, and every question that it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from skmag._answers import Answers, Question
from skmag._arrays import (
    ArrayKind,
    as_numpy,
    converted,
    resolve_device,
)
from skmag._input import (
    MetricLike,
    build_similarity,
    check_2d,
    check_tol,
    query_tensor,
    rounding_of,
)
from skmag._metrics import check_distances


class LeaveOneOut(NamedTuple):
    """What a weighting says of each of its own points after leaving it out.

    Each answer is for an input row, as if the row and its copies had not been there.

    Parameters
    ----------
    weight : array of shape (n_samples,)
        Joining weights.
    residual : array of shape (n_samples,)
        Residuals.
    potential : array of shape (n_samples,)
        Potentials.
    gain : array of shape (n_samples,)
        Gains.

    See Also
    --------
    Weighting.leave_one_out : Makes one.

    Examples
    --------
    >>> from skmag import weighting
    >>> weighting([[0.0], [1.0], [1.5]]).leave_one_out().potential.round(3)
    array([0.368, 0.797, 0.607])
    """

    weight: Any
    residual: Any
    potential: Any
    gain: Any


class Weighting:
    """The weighting of a finite metric space X at scale t, ready to be asked.

    Made by :func:`weighting`. With zeta = exp(-t d) on the distinct points of X, w solves
    ``zeta w = 1`` and the magnitude is the sum of w. For a query z with k = zeta(z, X):

    ==============  ===========================  ==============================================
    question        formula                      meaning
    ==============  ===========================  ==============================================
    potential       h = k w                      how well z is represented, 1 on points of X
    residual        r = 1 - k zeta^-1 k'         how much room is left at z, 0 on points of X
    joining weight  (1 - h) / r                  the weight that z would get
    gain            (1 - h)^2 / r                how much the magnitude would grow
    ==============  ===========================  ==============================================

    A weighting is not changed by its methods; :meth:`extend` and :meth:`drop` return new ones.

    Parameters
    ----------
    answers : Answers
        The solved weighting, in tensors (internal).
    kind : ArrayKind
        How to hand arrays back (internal).

    Attributes
    ----------
    weights : array of shape (n_samples,)
        Weight of each input row, in input order; copies of a point share its weight equally.
    magnitude : float
        Effective number of points: the sum of the weights if a factor gave them, else the solver's
        best value, which is more accurate than their sum.
    t : float
        The scale, also where ``t="scale"`` was asked for.
    solver : str
        Name of the solver that ran.
    reason : str
        Why it was chosen.
    lower, upper : float
        Proven bounds of the magnitude, rounding included; `upper` is infinite where none can be
        had, and both are where the similarities are not known to be positive definite.
    standard_error : float
        Where a solver goes by an estimate: one standard deviation for "sparse", which promises
        three of them, an estimate of the error itself for "cg"; 0.0 elsewhere.
    residual_norm : float
        Euclidean norm of ``1 - zeta w``; NaN where it was not computed.
    n_iter : int
        Iterations of the solver, 0 for a factor.
    converged : bool
        Whether the solver met its tolerance.
    details : dict
        What else the solver reports: the preconditioner of "cg", the tail that "sparse" corrected
        and its numbers of centers and neighbours, and the like; empty for a factor.
    n_samples : int
        Number of input rows.
    n_points : int
        Number of distinct points.

    See Also
    --------
    weighting : Make one from data.

    References
    ----------
    E. Bunch, D. Dickinson, J. Kline, G. Fung, "Practical applications of metric space magnitude
    and weighting vectors", Definition 1 and section 2.

    Examples
    --------
    >>> from skmag import weighting
    >>> space = weighting([[0.0], [1.0], [3.0]])
    >>> round(space.magnitude, 6)
    2.223711
    >>> space.potential([[1.0], [2.0]]).round(6)
    array([1.      , 0.648054])
    """

    def __init__(self, answers: Answers, kind: ArrayKind) -> None:
        self._answers = answers
        self._kind = kind

    def __repr__(self) -> str:
        return (
            f"Weighting(magnitude={self.magnitude:.6g}, n_samples={self.n_samples}, "
            f"n_points={self.n_points}, t={self.t:.6g}, solver={self.solver!r})"
        )

    @property
    def weights(self) -> Any:
        """Weight of each input row; copies of a point share its weight equally."""
        return self._by_row(self._answers.weights / self._answers.similarity.counts)

    @property
    def magnitude(self) -> float:
        """Effective number of points."""
        return self._answers.magnitude

    @property
    def t(self) -> float:
        """The scale."""
        return self._answers.similarity.t

    @property
    def solver(self) -> str:
        """Name of the solver that ran."""
        return self._answers.factor.name

    @property
    def reason(self) -> str:
        """Why this solver was chosen."""
        return self._answers.reason

    @property
    def lower(self) -> float:
        """Proven lower bound of the magnitude, rounding included."""
        return self._answers.certificate.lower

    @property
    def upper(self) -> float:
        """Proven upper bound of the magnitude, infinite where none can be had."""
        return self._answers.certificate.upper

    @property
    def standard_error(self) -> float:
        """Standard error of the magnitude where the solver goes by an estimate, else 0.0."""
        return self._answers.certificate.standard_error

    @property
    def residual_norm(self) -> float:
        """Euclidean norm of ``1 - zeta w``; NaN where it was not computed."""
        return self._answers.certificate.residual_norm

    @property
    def n_iter(self) -> int:
        """Iterations of the solver, 0 for a factor."""
        return self._answers.certificate.n_iter

    @property
    def converged(self) -> bool:
        """Whether the solver met its tolerance."""
        return self._answers.certificate.converged

    @property
    def details(self) -> dict[str, Any]:
        """What else the solver reports, by name; empty for a factor."""
        return dict(self._answers.details)

    @property
    def n_samples(self) -> int:
        """Number of input rows."""
        return len(self._answers.similarity.group)

    @property
    def n_points(self) -> int:
        """Number of distinct points."""
        return len(self._answers.similarity)

    def potential(self, Z: Any) -> Any:
        """Return how well query points are represented: h = k w.

        Parameters
        ----------
        Z : array-like of shape (n_queries, n_features) or (n_queries, n_samples)
            Query points; their distances to every row of X if ``metric="precomputed"``.

        Returns
        -------
        array of shape (n_queries,)
            Potentials, 1 on points of X and towards 0 far away.

        Raises
        ------
        ValueError
            If the queries do not fit X; the message names them.
        """
        queries, kind = self._queries(Z, "Z")
        return kind.wrap(self._answers.potentials(queries))

    def residual(self, Z: Any) -> Any:
        """Return how much room is left at query points: r = 1 - k zeta^-1 k'.

        Parameters
        ----------
        Z : array-like of shape (n_queries, n_features) or (n_queries, n_samples)
            Query points; their distances to every row of X if ``metric="precomputed"``.

        Returns
        -------
        array of shape (n_queries,)
            Residuals (the kriging variance), 0 on points of X and towards 1 far away.

        Raises
        ------
        ValueError
            If the queries do not fit X; the message names them.
        """
        return self._ask(Z, lambda probe: probe.residual)

    def joining_weight(self, Z: Any) -> Any:
        """Return the weight that each query point would get if it alone joined X.

        Parameters
        ----------
        Z : array-like of shape (n_queries, n_features) or (n_queries, n_samples)
            Query points; their distances to every row of X if ``metric="precomputed"``.

        Returns
        -------
        array of shape (n_queries,)
            ``(1 - h) / r``. A query on a point of X with c copies gets a share ``w / (c + 1)``.

        Raises
        ------
        ValueError
            If the queries do not fit X; the message names them.
        """
        return self._ask(Z, self._answers.joining_weights)

    def gain(self, Z: Any) -> Any:
        """Return how much the magnitude would grow if each query point alone joined X.

        Parameters
        ----------
        Z : array-like of shape (n_queries, n_features) or (n_queries, n_samples)
            Query points; their distances to every row of X if ``metric="precomputed"``.

        Returns
        -------
        array of shape (n_queries,)
            ``(1 - h)^2 / r``, 0 on points of X.

        Raises
        ------
        ValueError
            If the queries do not fit X; the message names them.
        """
        return self._ask(Z, self._answers.gains)

    def loss(self) -> Any:
        """Return how much the magnitude would fall without each point of X.

        Returns
        -------
        array of shape (n_samples,)
            ``w_i^2 / (zeta^-1)_ii`` for each input row; a point leaves with all its copies.
        """
        return self._by_row(self._answers.gains(self._answers.left_out()))

    def leave_one_out(self) -> LeaveOneOut:
        """Return what X without x_i says of x_i, for every i and without refitting.

        Returns
        -------
        LeaveOneOut
            Arrays of shape (n_samples,): ``weight`` w_i, ``residual`` 1 / (zeta^-1)_ii,
            ``potential`` 1 - w_i / (zeta^-1)_ii and ``gain`` w_i^2 / (zeta^-1)_ii, where w_i
            belongs to the distinct point: copies of a point are left out together.
        """
        own = self._answers.left_out()
        return LeaveOneOut(
            weight=self._by_row(self._answers.weights),
            residual=self._by_row(own.residual),
            potential=self._by_row(own.potential),
            gain=self._by_row(self._answers.gains(own)),
        )

    def extend(self, points: Any) -> Weighting:
        """Return the weighting of X with more points, through the Schur complement.

        Parameters
        ----------
        points : array-like of shape (n_new, n_features) or (n_new, n_samples + n_new)
            New points, which may repeat known ones. If ``metric="precomputed"``, the distances
            of each new point to all rows of X followed by all new ones.

        Returns
        -------
        Weighting
            Its rows are those of X followed by the new ones. A factor of X is extended,
            not computed again (weighting-vector-applications, section 2.1); a solver without one
            solves again, beginning with the known weights where it can.

        Raises
        ------
        ValueError
            If the points do not fit X; the message names them.
        MemoryError
            If the larger factor does not fit.
        numpy.linalg.LinAlgError
            If the larger similarity matrix has no inverse.
        """
        new, _ = self._queries(points, "points", joining=True)
        return Weighting(self._answers.extended(new), self._kind)

    def drop(self, indices: Any) -> Weighting:
        """Return the weighting of X without some rows, through the Schur complement.

        Parameters
        ----------
        indices : int or array-like of int
            Input rows that leave, counted from 0; negative ones from the end.

        Returns
        -------
        Weighting
            Its rows are those that stay, in order. A factor of X is updated, not computed
            again (weighting-vector-applications, section 2.2); a solver without one solves again.

        Raises
        ------
        ValueError
            If `indices` are not rows of X or name all of them.
        """
        rows = _row_indices(indices, self.n_samples)
        return Weighting(self._answers.dropped(rows), self._kind)

    def _by_row(self, values: torch.Tensor) -> Any:
        return self._kind.wrap(self._answers.similarity.to_rows(values))

    def _ask(self, Z: Any, question: Question) -> Any:
        queries, kind = self._queries(Z, "Z")
        return kind.wrap(question(self._answers.probe(queries)))

    def _queries(
        self, Z: Any, name: str, *, joining: bool = False
    ) -> tuple[torch.Tensor, ArrayKind]:
        """Validated queries, and the kind of array they came in."""
        similarity, queries = self._answers.similarity, check_2d(Z, name)
        if similarity.points is None:
            columns = self.n_samples + (len(queries) if joining else 0)
        else:
            columns = similarity.points.shape[1]
        data = query_tensor(queries, name, similarity.metric, columns, similarity.device)
        if joining and similarity.points is None:
            check_distances(data[:, self.n_samples :], name, rounding_of(queries))
        return data, ArrayKind.of(queries)

    def __sklearn_array_api_convert__(self, converter: Callable[[Any], Any]) -> Weighting:
        return Weighting(*converted(self._answers, converter))


def weighting(
    X: Any,
    *,
    t: float | str = 1.0,
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    solver: str = "auto",
    tol: float = 1e-6,
    solver_params: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
) -> Weighting:
    """Compute the weighting of a finite metric space.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
        Points, or their distances if ``metric="precomputed"``: numpy, lists, pandas or polars
        frames, and torch tensors or any other array API input under scikit-learn's
        ``array_api_dispatch``. Equal points are merged and share their weight.
    t : float or "scale", default=1.0
        Positive scale that multiplies the distances; "scale" is one over the median distance
        between distinct points.
    metric : str or callable, default="euclidean"
        "euclidean", "cityblock", "chebyshev", "minkowski" and "cosine" are computed by torch;
        every other metric of :func:`sklearn.metrics.pairwise_distances`, functions of two
        vectors and "precomputed" work too.
    metric_params : mapping, default=None
        Further arguments of the metric, such as ``{"p": 3}`` for "minkowski".
    solver : str, default="auto"
        How to solve. Solvers that make a factor are exact: "line", "cholesky" (8 n^2 bytes),
        "mixed" (a float32 factor refined to float64 accuracy, 4 n^2 bytes), "indefinite". The
        others never hold the matrix: "cg" (conjugate gradients with a certified interval),
        "sparse" (two levels, near-linear cost, an estimated error), "centers" (a lower bound), and
        for comparison the papers' "iterative_normalization" and "gradient_descent". "auto" takes
        the closed form on the real line for one feature, a factor up to 10,000 points, "sparse" for
        more than 30,000 points of low intrinsic dimension if `tol` is 1e-5 or more, else "cg"; from
        some 258,000 points on, where "cg" would take hours on a CPU, "sparse" or "centers".
    tol : float, default=1e-6
        Relative accuracy of the magnitude that solvers without a factor stop at, between 0 and 1.
        Weights and potentials are accurate to about its square root. Under the Euclidean metric
        "cg" proves it, under other norms it goes by an estimate where the proven interval is too
        wide; under the cosine it warns then.
    solver_params : mapping, default=None
        Further arguments of a solver without a factor. "cg": ``max_iter``, ``preconditioner``
        ("auto", "none", "partial_cholesky" or "sparse"), ``target`` (norm of the residual to reach
        besides) and ``callback``, called after every product in float64 with an object that has
        ``magnitude``, ``lower``, ``upper``, ``residual_norm`` and ``n_iter``, and whose true answer
        stops. "sparse": ``n_centers``, ``n_neighbors``, ``random_state``, ``canonical`` (to
        give what :func:`skmag.dask.weighting` gives). "centers": ``n_centers``.
        "iterative_normalization": ``max_iter``. "gradient_descent":
        ``learning_rate``, ``momentum``, ``batch_size``, ``max_iter``, ``random_state``.
    device : {"auto", "cpu", "cuda", "mps"}, torch.device or None, default=None
        Where to compute; None follows `X`. Answers come back where the question was.

    Returns
    -------
    Weighting
        Holds the weights and the magnitude, and answers for new points.

    Raises
    ------
    ValueError
        If an argument is not usable: the message names the argument and its value.
    MemoryError
        If the factor does not fit: the message names n and the bytes.
    numpy.linalg.LinAlgError
        If the similarity matrix has no inverse.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        If a solver without a factor did not meet `tol`; the message holds the interval that it
        reached.
    NotPositiveDefiniteWarning
        If the similarity matrix is not positive definite; a symmetric indefinite solve answers.
    scipy.linalg.LinAlgWarning
        If points are so close that the weights of close points are accurate to less than 1e-6, or
        that float64 cannot tell them apart (they are merged). Magnitude and potentials are not
        concerned.

    See Also
    --------
    magnitude : Only the magnitude.
    magnitude_weights : Only the weights.

    Notes
    -----
    Solvers without a factor answer potentials from the weights alone. Residuals, gains and what
    is left out make them factor the matrix the first time, up to 20,000 points where that fits the
    memory, or solve for each query beyond; they are then what the factor says.

    References
    ----------
    E. Bunch, D. Dickinson, J. Kline, G. Fung, "Practical applications of metric space magnitude
    and weighting vectors", Definition 1; S. Torkamani, H. Gouk, R. Sarkar, "Magnitude distance",
    Theorem 4.1 (duplicates).

    Examples
    --------
    >>> import numpy as np
    >>> from skmag import weighting
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 1.0], [5.0, 0.0]])
    >>> space = weighting(X, t=2.0)
    >>> space.weights.round(4)
    array([0.8808, 0.4404, 0.4404, 0.9999])
    >>> round(space.magnitude, 4)
    2.7614
    >>> disc = np.random.default_rng(0).normal(size=(3000, 2))
    >>> space = weighting(disc, solver="cg", tol=1e-8)
    >>> bool(space.upper - space.lower <= 1e-8 * space.magnitude)
    True
    """
    array = check_2d(X, "X")
    kind = ArrayKind.of(array)
    place = resolve_device(device, array)
    similarity = build_similarity(array, t, metric, metric_params, place)
    tol = check_tol(tol)
    return Weighting(Answers.by(similarity, solver, place, tol, solver_params), kind)


def _row_indices(indices: Any, n: int) -> np.ndarray:
    rows = np.atleast_1d(as_numpy(indices))
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise ValueError(f"indices={indices!r} must be one or several integers")
    rows = rows.astype(np.int64)
    outside = rows[(rows < -n) | (rows >= n)]
    if outside.size:
        raise ValueError(f"indices={outside.tolist()!r} are not among the {n} rows of X")
    rows = np.unique(rows % n)
    if len(rows) == n:
        raise ValueError(f"indices name all {n} rows of X; the empty space has no weighting")
    return rows
