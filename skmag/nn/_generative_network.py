"""A generator of points like given ones, trained by the magnitude distance: scikit-learn glue."""

from __future__ import annotations

import copy
import os
import warnings
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from skmag._arrays import (
    ArrayKind,
    PortableEstimator,
    as_numpy,
    as_tensor,
    available_device,
    detached,
    resolve_device,
)
from skmag._compat import Interval, fit_context
from skmag._progress import fit_task
from skmag.nn._checkpoint import Checkpoint, digest
from skmag.nn._curriculum import MagnitudeCurriculum
from skmag.nn._push_forward import (
    MultilayerGenerator,
    check_network,
    description,
    place_of,
    relative_to,
    sampled,
)
from skmag.nn._training import Training, TrainingPlan, check_sight, check_spread, mean_distance

_SEED_OF_SCORE = 0


class MagnitudeGenerativeNetwork(CallbackSupportMixin, PortableEstimator, BaseEstimator):
    """Generator that is trained until its points are near the data in magnitude distance.

    A network pushes normal points of a latent space forward. Each step of its training compares a
    batch of data with as many generated points; there is no second network to be trained against.
    Coarse scales come first and finer ones follow, as a curriculum says.

    Parameters
    ----------
    generator : torch.nn.Module, default=None
        Network that maps latent points of shape (n, latent_dim) to points in the data's own units,
        of shape (n, n_features) or any that flattens to it. A copy is trained, beginning with its
        present weights. None is a perceptron with `hidden_layer_sizes`, whose output is linear:
        for data within bounds give a network whose last step keeps to these, such as a sigmoid.
    latent_dim : int, default=64
        Dimensions of the latent space.
    hidden_layer_sizes : int or array-like of int, default=(256, 256)
        Rectified linear units in each hidden layer, if there is no `generator`.
    curriculum : MagnitudeCurriculum, default=None
        Scales and the epochs from which on they take part. None is what
        :meth:`MagnitudeCurriculum.from_data` proposes for two scales that are not cumulative: the
        coarse one for a fifth of the epochs, then the fine one.
    normalized : bool, default=True
        Whether the distance is divided by the magnitude of the union of both batches. Without it
        collapsed points are rewarded at scales at which all points are far apart: n others have the
        distance n + 1 from one point, but 2n from as many.
    batch_size : int, default=256
        Greatest number of rows in a batch. An epoch is divided into batches of nearly equal size.
        The time that an epoch takes grows as its square.
    max_epochs : int, default=200
        Number of times that each row takes part, at most.
    learning_rate : float, default=1e-3
        Step size of the optimizer Adam.
    beta_1 : float, default=0.9
        Decay rate of Adam's first moment.
    beta_2 : float, default=0.999
        Decay rate of Adam's second moment.
    early_stopping : bool, default=False
        Whether some rows are held out, training stops when the distance to these does not fall any
        more, and the weights are those with the least distance. It stops only when all scales have
        joined, and forgets what was best when the scales change.
    validation_fraction : float, default=0.1
        Share of the rows held out by `early_stopping`.
    n_iter_no_change : int, default=10
        Number of epochs without an improvement by `tol` after which `early_stopping` stops.
    tol : float, default=1e-4
        What counts as an improvement.
    checkpoint : str or os.PathLike, default=None
        File in which the training is kept as it is after some epochs. If the file exists, ``fit``
        continues from it, to the same weights as if it had never been interrupted.
    checkpoint_every : int, default=1
        Number of epochs between two writings of this file.
    random_state : int, RandomState instance or None, default=None
        Draws the weights, the held-out rows, the order of rows, and latent points.
    device : {"auto", "cpu", "cuda", "mps"}, torch.device or None, default=None
        Where to train; None follows `X`.

    Attributes
    ----------
    generator_ : torch.nn.Module
        The trained network, in evaluation mode.
    curriculum_ : MagnitudeCurriculum
        The curriculum.
    loss_curve_ : list of float
        Mean loss over the batches of each epoch: the distance, averaged over the scales.
    validation_scores_ : list of float or None
        Minus the distance to the held-out rows after each epoch; None without `early_stopping`.
    best_score_ : float or None
        Greatest of these since the scales last changed.
    n_iter_ : int
        Number of epochs run.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where X has names.

    See Also
    --------
    MagnitudeCurriculum : The scales.
    MagnitudeDistanceLoss : The loss, to write a training of one's own.

    Notes
    -----
    The loss of an epoch is the mean of the distances at all scales that have joined. The paper's
    plain variant is their sum; for Adam, whose steps do not depend on a factor of the loss, this
    makes no difference but in the epochs after a scale has joined. The default leaves the coarse
    scale when the fine one comes, where the paper keeps it: kept, it cost digits most of their
    quality. Of a normalized distance a coarse scale stays nevertheless for the first epoch of the
    next one, and comes back while the distance at that one alone is above 0.9 and hardly tells
    where to go. A distance that ends above 0.98 gives a ConvergenceWarning.

    Of the default network's output each feature is moved by its mean in the data, and all are
    multiplied by one number, the root mean variance. It starts with the mean and deviation of each
    feature, and a feature that is constant in the data remains so. The distances are always those
    between points as they are in X: give features comparable units.

    Two samples of one distribution have a positive distance, the larger the fewer they are; the
    loss does not tend to zero. Where points are dense at a scale, their magnitude is a matter of
    the space that they fill and hardly of how many there are where: with few features, a bridge
    between clusters is seen at scales near one over the distance between neighbours in a batch, and
    not at coarse ones. Many features make points sparse.

    With the same `random_state`, data, machine and number of threads, a fit on the CPU gives the
    same weights to the last bit, whether interrupted or not. Torch's global generators are put
    back after modules that draw numbers themselves, such as dropout, have drawn from them; fits in
    parallel threads disturb each other there, processes do not.

    A checkpoint serves one fit: it is refused where X has changed, as in cross-validation, or a
    parameter has, but for `max_epochs`, `device`, the file's name and how often it is written, and
    one RandomState instance in place of another. Of a `generator` only what its ``state_dict``
    holds is kept, and its weights at the start are not compared. A finished training is returned as
    it is. It is continued with a greater `max_epochs` if `curriculum` was given; one proposed from
    data follows `max_epochs`.

    Fitted networks may be pickled, and with the default network saved by skops. Other networks are
    pickled as torch does: their classes have to be importable.

    References
    ----------
    S. Torkamani, H. Gouk, R. Sarkar, "Magnitude distance: a geometric measure of dataset
    similarity", sections 6, 7 and F.

    Examples
    --------
    >>> import numpy as np
    >>> from skmag.nn import MagnitudeGenerativeNetwork
    >>> X = np.random.default_rng(0).normal(size=(200, 2)) + [5.0, -3.0]
    >>> model = MagnitudeGenerativeNetwork(max_epochs=5, random_state=0).fit(X)
    >>> model.sample(1000, random_state=1).mean(axis=0).round()
    array([ 5., -3.])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "generator": [torch.nn.Module, None],
        "latent_dim": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "curriculum": [MagnitudeCurriculum, None],
        "normalized": ["boolean"],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "checkpoint": [str, os.PathLike, None],
        "checkpoint_every": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "device": [str, torch.device, None],
    }

    def __init__(
        self,
        generator: torch.nn.Module | None = None,
        *,
        latent_dim: int = 64,
        hidden_layer_sizes: Any = (256, 256),
        curriculum: MagnitudeCurriculum | None = None,
        normalized: bool = True,
        batch_size: int = 256,
        max_epochs: int = 200,
        learning_rate: float = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        checkpoint: Any = None,
        checkpoint_every: int = 1,
        random_state: Any = None,
        device: Any = None,
    ) -> None:
        self.generator = generator
        self.latent_dim = latent_dim
        self.hidden_layer_sizes = hidden_layer_sizes
        self.curriculum = curriculum
        self.normalized = normalized
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.random_state = random_state
        self.device = device

    @fit_context(prefer_skip_nested_validation=True)
    @with_callbacks
    def fit(self, X: Any, y: Any = None) -> MagnitudeGenerativeNetwork:
        """Train the generator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points to learn, at least two.
        y : None
            Ignored.

        Returns
        -------
        MagnitudeGenerativeNetwork
            The trained model.

        Raises
        ------
        ValueError
            If an argument is not usable, or `checkpoint` is damaged or belongs to another training.
        FloatingPointError
            If numbers become NaN or infinite, or generated points leave the sight of all data.
        numpy.linalg.LinAlgError
            If the loss of a batch cannot be computed.
        """
        self.__dict__.pop("generator_", None)
        X = validate_data(self, detached(X), ensure_min_samples=2)
        data = as_tensor(X, resolve_device(self.device, X), copy=False).contiguous()
        self._kind = ArrayKind.of(X)
        self._precision = "float32" if "float32" in str(X.dtype) else "float64"
        self.curriculum_ = self.curriculum or MagnitudeCurriculum.from_data(
            as_numpy(data),
            self.max_epochs,
            n_scales=2,
            cumulative=False,
            batch_size=self.batch_size,
        )
        if self.curriculum_.epochs[-1] >= self.max_epochs:
            warnings.warn(
                f"max_epochs={self.max_epochs} ends before the scale {self.curriculum_.scales[-1]} "
                f"of the curriculum joins in epoch {self.curriculum_.epochs[-1]}",
                UserWarning,
                stacklevel=2,
            )
        file = None if self.checkpoint is None else Checkpoint(self.checkpoint)
        try:
            self._train(data, X, file)
        except BaseException:
            # Weights of half a training are not an answer.
            self.__dict__.pop("generator_", None)
            raise
        return self

    def _train(self, data: torch.Tensor, X: Any, file: Checkpoint | None) -> None:
        """Run the epochs that are still to be run, and set the fitted attributes."""
        written = None if file is None else file.read()
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        rng = torch.Generator().manual_seed(seed if written is None else written.state["seed"])
        network = self._network(data, rng)
        training = Training(network, relative_to(network, data), self._plan(), rng)
        fingerprint = {} if file is None else self._fingerprint(data, training)
        if file is not None and written is not None:
            file.check_same(written.fingerprint, fingerprint)
            training.restore(written.state)
            if training.epoch > self.max_epochs:
                raise ValueError(
                    f"checkpoint={str(file.path)!r} holds {training.epoch} epochs, more than "
                    f"max_epochs={self.max_epochs}; a training cannot go back: raise max_epochs, "
                    "or remove the file, or name another one"
                )
        # Callbacks see the model as it is after an epoch, and may let it sample.
        self.generator_, self._trained_by = network, training.plan
        self._report(training)
        saved = training.epoch
        with fit_task(self, self.max_epochs - training.epoch, X) as steps:
            for _ in steps(training.epochs(self.max_epochs)):
                training.run_epoch()
                self._report(training)
                if file is not None and training.epoch - saved >= self.checkpoint_every:
                    file.write(fingerprint, training.state())
                    saved = training.epoch
        if file is not None and training.epoch > saved:
            file.write(fingerprint, training.state())
        training.finish()
        check_spread(network, data, training.plan)
        check_sight(training)

    def _report(self, training: Training) -> None:
        """Set the attributes that tell how a training has gone so far."""
        early = training.early
        self.n_iter_ = training.epoch
        self.loss_curve_ = training.loss_curve
        self.validation_scores_ = early.scores if early else None
        self.best_score_ = early.best if early else None

    def _plan(self) -> TrainingPlan:
        return TrainingPlan(
            latent_dim=int(self.latent_dim),
            curriculum=self.curriculum_,
            normalized=bool(self.normalized),
            batch_size=int(self.batch_size),
            learning_rate=float(self.learning_rate),
            beta_1=float(self.beta_1),
            beta_2=float(self.beta_2),
            validation_fraction=float(self.validation_fraction) if self.early_stopping else None,
            n_iter_no_change=int(self.n_iter_no_change),
            tol=float(self.tol),
        )

    def _network(self, data: torch.Tensor, rng: torch.Generator) -> torch.nn.Module:
        """The network before its training, where the data are."""
        if self.generator is None:
            sizes = [int(self.latent_dim), *self._hidden_sizes()]
            return MultilayerGenerator.drawn(data, sizes, rng).to(data.device)
        try:
            network = copy.deepcopy(self.generator).to(data.device)
        except RuntimeError as error:  # such as that of the older weight_norm after a backward pass
            raise ValueError(f"generator cannot be copied: {error}") from error
        check_network(network, self.latent_dim, data.shape[1], rng)
        return network

    def _hidden_sizes(self) -> list[int]:
        sizes: list[int] = np.atleast_1d(np.asarray(self.hidden_layer_sizes)).tolist()
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            raise ValueError(
                f"hidden_layer_sizes={self.hidden_layer_sizes!r} must be positive whole numbers"
            )
        return sizes

    def _fingerprint(self, data: torch.Tensor, training: Training) -> dict[str, str]:
        """What a training depends on, as names and texts."""
        plan = {name: repr(value) for name, value in vars(training.plan).items()}
        # A curriculum that was proposed follows from other parameters, which are named first.
        curriculum = plan.pop("curriculum")
        # What a generator of random numbers would draw next is in the file, and nowhere else.
        fixed = isinstance(self.random_state, Integral)
        return {
            "X": digest(data),
            "early_stopping": repr(bool(self.early_stopping)),
            **plan,
            "hidden_layer_sizes": repr(self._hidden_sizes() if self.generator is None else None),
            "generator": description(training.network),
            "random_state": repr(int(self.random_state) if fixed else None),
            "curriculum": curriculum,
        }

    def sample(self, n_samples: int = 1, random_state: Any = None) -> Any:
        """Generate points.

        Parameters
        ----------
        n_samples : int, default=1
            Number of points.
        random_state : int, RandomState instance or None, default=None
            Draws the latent points, None anew in each call.

        Returns
        -------
        array of shape (n_samples, n_features)
            Points, of the kind that X had in ``fit``; in float32 if X was, else in float64.

        Raises
        ------
        ValueError
            If `n_samples` is not a positive whole number.
        """
        check_is_fitted(self)
        if not isinstance(n_samples, Integral) or isinstance(n_samples, bool) or n_samples < 1:
            raise ValueError(f"n_samples={n_samples!r} must be a positive whole number")
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        rng = torch.Generator().manual_seed(seed)
        made = sampled(self.generator_, int(n_samples), self._trained_by.latent_dim, rng)
        kind = self._kind
        out = kind.wrap(made.to(getattr(torch, self._precision)))
        return out if kind.xp is np else kind.xp.astype(out, getattr(kind.xp, self._precision))

    def score(self, X: Any, y: Any = None) -> float:
        """Tell how near generated points are to others.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Points, which the generator should not have seen.
        y : None
            Ignored.

        Returns
        -------
        float
            Minus the distance to as many generated points, at the scales of `curriculum_` in the
            last epoch, which scores to be compared must share. Always the same for the same points
            in the same order; more than 1,000 are compared in blocks of at most as many, and the
            order tells which.

        Raises
        ------
        FloatingPointError
            If the network returns NaN or infinity.
        """
        check_is_fitted(self)
        X = validate_data(self, detached(X), reset=False)
        data = as_tensor(X, place_of(self.generator_), copy=False)
        points = relative_to(self.generator_, data)
        scales = self.curriculum_.at(max(self.n_iter_ - 1, 0))
        return -mean_distance(self.generator_, points, scales, self._trained_by, _SEED_OF_SCORE)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "generator_")

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        network = state.get("generator_")
        if network is None or isinstance(network, MultilayerGenerator):
            return state
        # Torch's own pickles of what is on a card do not open where there is none.
        device = str(place_of(network))
        return {**state, "generator_": copy.deepcopy(network).cpu(), "_device": device}

    def __setstate__(self, state: dict[str, Any]) -> None:
        device = state.pop("_device", None)
        super().__setstate__(state)
        if device is not None:
            self.generator_.to(available_device(torch.device(device)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        return tags
