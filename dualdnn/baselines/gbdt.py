"""Gradient-boosted trees whose leaves are features: LightGBM, fitted on the training part."""

from __future__ import annotations

import importlib.util
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dualdnn.baselines.tree_features import TreeFeatures
from dualdnn.data.derived_fields import with_derived_fields
from dualdnn.data.examples import Examples
from dualdnn.errors import ConfigError, DataError
from dualdnn.storage import atomic_folder, sha256_of_file

if TYPE_CHECKING:
    import lightgbm

_TREES, _ABOUT = "trees.txt", "about.json"
# LightGBM keeps categories below this number only.
_MOST_CATEGORIES = 255
# LightGBM's own default.
_LEAST_ROWS = 20


@dataclass(frozen=True, kw_only=True)
class GbdtSettings:
    """How the trees grow.

    Attributes:
        trees: most trees; each becomes one field.
        leaves: most leaves of a tree: the values of its field.
        learning_rate: in (0, 1].
        least_share: share of the training part that a leaf needs, in [0, 0.5); 20 rows in any case.
        patience: trees without a better log loss of the validation part after which the others are
            cut off; without a validation part all trees grow.
        most_categories: values up to which an id is read as a category; beyond, it is read by its
            count.
        threads: for fitting. A fixed number, since sums of floats depend on it.
    """

    trees: int
    leaves: int
    learning_rate: float
    least_share: float
    patience: int
    most_categories: int
    threads: int

    def mistakes(self, where: str) -> list[str]:
        """What is wrong with the values, or with the environment, one sentence each."""
        found = [f"{where}.{name} must be >= 1, got {getattr(self, name)}."
                 for name in ("trees", "patience", "threads")
                 if getattr(self, name) < 1]
        if self.leaves < 2:
            found.append(f"{where}.leaves must be >= 2, got {self.leaves}.")
        if not 0 < self.learning_rate <= 1:
            found.append(f"{where}.learning_rate must lie in (0, 1], got {self.learning_rate}.")
        if not 0 <= self.least_share < 0.5:
            found.append(f"{where}.least_share must lie in [0, 0.5), got {self.least_share}. Use 0 "
                         f"for leaves of {_LEAST_ROWS} rows.")
        if not 0 <= self.most_categories <= _MOST_CATEGORIES:
            found.append(f"{where}.most_categories must lie in [0, {_MOST_CATEGORIES}], got "
                         f"{self.most_categories}. Use 0 to read every id by its count.")
        if importlib.util.find_spec("lightgbm") is None:
            found.append(f"{where} needs LightGBM, which is not installed. Install it with "
                         "`pip install lightgbm`, or leave this baseline out.")
        return found


def _lightgbm() -> Any:
    """The package, imported where trees are asked for: the library does not require it."""
    try:
        import lightgbm
    except (ImportError, OSError) as error:  # OSError: without the OpenMP runtime
        raise ConfigError(f"trees need LightGBM, which cannot be imported: {error}. Install it "
                          "with `pip install lightgbm`.") from error
    return lightgbm


class Trees:
    """Fitted trees, as they were saved.

    Attributes:
        folder: where they lie.
        about: settings, names of the columns they read and of those read as categories, number of
            trees, seconds of fitting.
    """

    def __init__(self, folder: Path) -> None:
        """Load them.

        Raises:
            ConfigError: LightGBM is not installed.
            DataError: the folder does not hold trees.
        """
        package = _lightgbm()
        self.folder = folder
        try:
            self.about: dict[str, Any] = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
            self._booster: lightgbm.Booster = package.Booster(model_file=folder / _TREES)
        except (OSError, ValueError, package.basic.LightGBMError) as error:
            raise DataError(f"{folder} does not hold fitted trees: {error}. Train the run "
                            "anew.") from error

    @property
    def count(self) -> int:
        """Number of trees."""
        return self._booster.num_trees()

    def leaves(self, features: np.ndarray, threads: int = 0) -> np.ndarray:
        """The leaf that each row falls into in every tree.

        Args:
            features: (n, columns) float32 of `TreeFeatures.matrix`.
            threads: 0 for all there are.

        Returns:
            (n, count) int32.
        """
        found = self._booster.predict(features, pred_leaf=True, num_threads=threads)
        return np.asarray(found, np.int32).reshape(len(features), self.count)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(n,) float64 scores of the trees by themselves."""
        return np.asarray(self._booster.predict(features, raw_score=True))

    def digest(self) -> str:
        """Hex digest of the trees."""
        return sha256_of_file(self.folder / _TREES)


def fit_trees(examples: Examples, features: TreeFeatures, settings: GbdtSettings, *, seed: int,
              folder: Path) -> Trees:
    """Fit trees, or load those that an earlier try has left.

    The same examples, settings and seed give the same trees, to the bit.

    Args:
        examples: the training part is fitted; the validation part, if any, says how many trees.
        features: of these examples.
        settings: how the trees grow.
        seed: of the run.
        folder: appears with the trees in it, whole or not at all.

    Raises:
        ConfigError: LightGBM is not installed.
    """
    if folder.is_dir():
        return Trees(folder)
    package, size = _lightgbm(), examples.training_size
    started = time.perf_counter()
    parameters = {
        "objective": "binary", "num_leaves": settings.leaves, "verbosity": -1,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": max(_LEAST_ROWS, round(
            settings.least_share * size.num_examples)),
        "num_threads": settings.threads, "seed": seed % 2**31, "deterministic": True,
        "force_row_wise": True,  # else it times both ways and takes the faster one
    }

    def dataset(index: np.ndarray, reference: Any = None) -> Any:
        # With mean 1: its limits on leaves are in units of weight.
        weights = examples.loss_weights(index)
        if weights is not None:
            weights /= size.mean_weight
        return package.Dataset(
            features.matrix(index), examples.labels[index], weight=weights, reference=reference,
            feature_name=features.names, categorical_feature=features.categorical,
        )

    train = dataset(examples.split.train)
    valid = [dataset(examples.split.valid, train)] if len(examples.split.valid) else []
    callbacks = [package.early_stopping(settings.patience, verbose=False)] if valid else []
    booster = package.train(parameters, train, num_boost_round=settings.trees, valid_sets=valid,
                            callbacks=callbacks)
    kept = booster.best_iteration if valid else booster.num_trees()
    about = {"settings": asdict(settings), "features": features.names,
             "categories": [features.names[column] for column in features.categorical],
             "trees": kept,
             "seconds": time.perf_counter() - started}
    with atomic_folder(folder) as temporary:
        booster.save_model(temporary / _TREES, num_iteration=kept)
        (temporary / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
    return Trees(folder)


def with_leaves(examples: Examples, trees: Trees, features: TreeFeatures, state: Path) -> Examples:
    """The same examples with one categorical field a tree: the leaf that a row falls into.

    Source: He et al. 2014, "Practical Lessons from Predicting Clicks on Ads at Facebook".

    Args:
        examples: the data; not changed.
        trees: fitted.
        features: of these examples.
        state: `paths.state`, for arrays that are too large for memory.
    """
    return with_derived_fields(
        examples, [f"gbdt_leaf_{i}" for i in range(trees.count)],
        trees.about["settings"]["leaves"],
        lambda index: trees.leaves(features.matrix(index)), digest=trees.digest(), state=state,
    )
