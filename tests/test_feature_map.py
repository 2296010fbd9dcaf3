"""UMAP is seeded; silhouette and k-NN purity are those of a slow loop, and say where they mean nothing."""

import numpy as np
import pytest

from reprog_kit.explore_settings import UmapSettings
from reprog_kit.feature_map import feature_map, highest_purity, knn_purity, like_neighbours, silhouette
from reprog_kit.parameters import InputError


def clusters(count: int = 12, classes: int = 3, spread: float = 0.4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return features (N, 6) around a direction a class, and labels."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), count)
    return np.eye(6)[labels] + spread * generator.normal(size=(len(labels), 6)), labels


def distance(x: np.ndarray, y: np.ndarray, metric: str) -> float:
    if metric == "euclidean":
        return float(np.sqrt(((x - y) ** 2).sum()))
    return 1 - float(x @ y) / float(np.sqrt(x @ x) * np.sqrt(y @ y))


def slow_silhouette(features: np.ndarray, labels: np.ndarray, metric: str) -> float:
    values = []
    for i, x in enumerate(features):
        means = {
            c: np.mean([distance(x, features[j], metric) for j in np.flatnonzero(labels == c) if j != i])
            for c in set(labels.tolist())
            if (labels == c).sum() > (c == labels[i])
        }
        if labels[i] not in means:  # alone in its class
            values.append(0.0)
            continue
        a = means.pop(labels[i])
        b = min(means.values())
        values.append((b - a) / max(a, b))
    return float(np.mean(values))


def slow_purity(features: np.ndarray, labels: np.ndarray, k: int, metric: str) -> float:
    shares = []
    for i, x in enumerate(features):
        others = sorted((distance(x, y, metric), j) for j, y in enumerate(features) if j != i)
        shares.append(np.mean([labels[j] == labels[i] for _, j in others[:k]]))
    return float(np.mean(shares))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("alone", [False, True])
def test_silhouette_and_purity_are_those_of_a_slow_loop(metric, alone):
    features, labels = clusters(spread=0.8)
    if alone:
        labels = np.where(np.arange(len(labels)) == 0, 7, labels)
    assert silhouette(features, labels, metric) == pytest.approx(slow_silhouette(features, labels, metric))
    for k in (1, 4, len(labels) - 1):
        assert knn_purity(features, labels, k, metric) == pytest.approx(slow_purity(features, labels, k, metric))


def test_known_answers():
    features, labels = clusters(spread=1e-6)
    assert silhouette(features, labels) == pytest.approx(1, abs=1e-6)
    assert knn_purity(features, labels, 11) == 1
    assert knn_purity(features, labels, 22) == pytest.approx(0.5)  # 11 of a class has 22 neighbours
    # Cosines do not see lengths; a picture is no neighbour of itself, though it be the nearest.
    assert silhouette(features * np.arange(1, 37)[:, None], labels) == pytest.approx(1, abs=1e-6)
    assert knn_purity(np.eye(3), np.arange(3), 1) == 0
    mixed = np.array([0, 1, 0, 1])
    assert silhouette(np.ones((4, 2)), mixed) == 0  # everything in one place
    assert like_neighbours(np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]]), mixed, 1).tolist() == [0, 0, 0, 0]


def test_the_highest_purity_is_that_of_perfect_features():
    labels = np.repeat([0, 1, 2], [2, 5, 20])
    assert highest_purity(labels, 4) == pytest.approx((2 * 1 / 4 + 5 + 20) / 27)
    features = np.eye(3)[labels] + 1e-6 * np.random.default_rng(0).normal(size=(27, 3))
    assert highest_purity(labels, 4) == pytest.approx(knn_purity(features, labels, 4))
    assert highest_purity(np.arange(6), 4) == 0 and highest_purity(np.zeros(6), 4) == 1


def test_degenerate_input_is_nan_or_refused():
    features, _ = clusters()
    assert np.isnan(silhouette(features, np.zeros(36)))
    assert np.isnan(silhouette(features, np.arange(36)))
    assert knn_purity(features, np.zeros(36), 5) == 1
    with pytest.raises(InputError, match="k = 36 is refused: of 36 pictures each has 35 others"):
        knn_purity(features, np.zeros(36), 36)
    with pytest.raises(InputError, match="not finite"):
        silhouette(np.where(features > 1, np.nan, features), np.arange(36) % 3)


@pytest.mark.parametrize(
    ("count", "given", "message"),
    [(4, {"neighbours": 2}, "at least 5"), (10, {}, "neighbours = 15 is refused.*-p neighbours 4"), (0, {}, "0 pict")],
)
def test_too_few_pictures_are_refused_before_umap_is_loaded(count, given, message):
    with pytest.raises(InputError, match=message):
        feature_map(np.ones((count, 3)), UmapSettings.build(**given))


@pytest.mark.slow
@pytest.mark.filterwarnings("error::UserWarning:umap")
def test_a_seed_gives_the_same_map_to_the_last_bit_and_another_does_not():
    features, labels = clusters(20, spread=0.2)
    settings = UmapSettings.build(neighbours=8)
    first, again = (feature_map(features, settings) for _ in range(2))
    assert first.shape == (60, 2) and first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, feature_map(features, UmapSettings.build(neighbours=8, seed=2)))
    # What is apart in the features is apart in the map, and min_dist keeps pictures from each other.
    assert silhouette(first, labels, "euclidean") > 0.6
    loose = feature_map(features, UmapSettings.build(neighbours=8, min_dist=1.0))
    assert silhouette(loose, labels, "euclidean") < silhouette(first, labels, "euclidean")
    # The smallest of maps, and features that are all the same.
    for few in (features[:5], np.ones((30, 4))):
        assert np.isfinite(feature_map(few, UmapSettings.build(neighbours=4))).all()
