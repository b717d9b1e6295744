"""LightGBM (Ke et al., NeurIPS 2017), by its own library: gradient boosting whose trees know categories.

    F_m(x) = F_{m-1}(x) + rate * T_m(x),    w_leaf = -sum g / (sum h + lambda)

A tree T_m grows leaf by leaf, each time at the split of the largest decrease of the loss, which is computed from
histograms of the gradients g and the Hessians h. A category is split into two sets of values, sorted by sum g / sum h.

As in `boosting`, a classifier predicts the channel, and another one each gain, from the inputs of a single step. The
number of trees and their size are the same, and there is no early stopping.

Departures: no sampling of rows by their gradients (GOSS), which the library's defaults do not use either; and splits of
categories are smoothed and regularised more than those of numbers (the library's cat_smooth and cat_l2).
"""

from dataclasses import dataclass
from functools import partial

from mtorl_model.data.encoding import input_sizes
from mtorl_model.methods import register
from mtorl_model.methods.baselines.boosting import Boosting, BoostingConfig
from mtorl_model.methods.baselines.shared.light_trees import LightTrees
from mtorl_model.methods.common.label_rows import LabelRows
from mtorl_model.methods.common.label_trees import LabelTrees
from mtorl_model.methods.method import State


@dataclass(frozen=True, slots=True)
class LightGBMConfig(BoostingConfig):
    # Values of a category on the smaller side of a split, at most. With the library's 32, trees of Criteo's sample are
    # worse for validation users.
    category_values: int = 8


@register
class LightGBM(Boosting):
    """`boosting` with the trees of LightGBM."""

    name = "lightgbm"
    Config = LightGBMConfig
    config: LightGBMConfig

    def fit_trees(self, labels: LabelRows) -> LabelTrees:
        categories = len(input_sizes(self.spec, self.config.reward_inputs).vocabulary)
        fit = partial(LightTrees.fit, categories=categories, category_values=self.config.category_values)
        return LabelTrees.fit(labels, self.config.trees, len(self.spec.channels), fit)

    def load_trees(self, state: State) -> LabelTrees:
        return LabelTrees.from_state(state, len(self.spec.channels), len(self.spec.gains), LightTrees.from_arrays)

    def summary(self) -> str:
        return f"LightGBM on {self.labels:,} labels"
