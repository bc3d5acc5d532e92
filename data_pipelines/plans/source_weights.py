"""Weights of sources by a rule: from the number of samples that each of them has in an epoch.

Temperature sampling, p_k ∝ n_k^(1/T), is how multilingual models mix languages (Arivazhagan et al. 2019). T = 1 draws
by size, and T → ∞ equally often.
"""

from collections.abc import Mapping

from tercet.data_pipelines.config import DataConfig


def weighed(data: DataConfig, samples: Mapping[str, int]) -> DataConfig:
    """The data with the weight of each source that the rule of `data.weights` gives. `samples`: those of an epoch."""
    if data.weights is None:
        return data
    largest = max(samples.values(), default=1)
    power = {name: (count / largest) ** data.weights.exponent for name, count in samples.items()}
    total = sum(power.values())
    return with_weights(data, {name: value / total for name, value in power.items()})


def with_weights(data: DataConfig, weights: Mapping[str, float]) -> DataConfig:
    """The data with these weights in place of those of the recipe."""
    train = {name: one.model_copy(update={"weight": weights[name]}) for name, one in data.train.items()}
    return data.model_copy(update={"train": train, "weights": None})
