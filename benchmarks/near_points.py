"""How far residuals by near points are from exact ones, and what their estimate says of it.

Standard normal points in several dimensions under the Euclidean and the city block distance, at
0.1, 1 and 10 over the median distance. Each point is left out; the error of a residual is relative
to the exact one, which a Cholesky factor gives. The last columns are the estimate that estimators
report as ``residual_error_``, and the rank correlation of both residuals.
"""

import argparse

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from side_by_side import limit_threads

from skmag import weighting
from skmag._answers import Answers
from skmag._metrics import resolve_metric
from skmag._similarity import Similarity


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=6000)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[2, 3, 5, 10, 20, 50])
    parser.add_argument("--quick", action="store_true", help="1,500 points")
    arguments = parser.parse_args()
    n = 1500 if arguments.quick else arguments.n
    limit_threads(1)
    table = Table("metric", "D", "t median", "median error", "90%", "estimate", "rank correlation")
    for metric in ("euclidean", "cityblock"):
        for dimension in arguments.dimensions:
            X = np.random.default_rng(0).normal(size=(n, dimension))
            points = Similarity.of(torch.from_numpy(X), resolve_metric(metric, None))
            for number in (0.1, 1.0, 10.0):
                t = number / points.median_distance()
                near = Answers.of(points.at(t), "sparse", points.device, residuals_only=True)
                found = near.left_out().residual.numpy()
                exact = weighting(X, t=t, metric=metric, solver="cholesky").leave_one_out().residual
                error = found / exact - 1
                table.add_row(
                    metric,
                    str(dimension),
                    f"{number:g}",
                    f"{np.median(error):.1e}",
                    f"{np.quantile(error, 0.9):.1e}",
                    f"{near.factor.residual_error():.1e}",
                    f"{spearmanr(found, exact)[0]:.3f}",
                )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
