"""Sets that are made of another: corrupted pictures, made by the library or published, with labels and a name."""

import numpy as np
import pytest

from reprog_kit.benchmarks import load_benchmark
from reprog_kit.corruptions import corrupt, variant_of
from reprog_kit.datasets import BenchmarkData
from reprog_kit.image_sets import Rows
from reprog_kit.parameters import InputError

NAMES = ["brightness", "contrast"]
SIDE = 32


@pytest.fixture
def data(benchmark_file, pictures, tmp_path):
    """Return a function that reads the colours at 32 px with one set of corrupted pictures."""

    def read(limit=None, role="shift", root=pictures, cache=None, **spec) -> BenchmarkData:
        made = {"made": {"kind": "corrupted", "of": "test", "names": NAMES, "severities": [1, 5], **spec}}
        sets = {"shift": {}, "ood": {}, role: made}
        return BenchmarkData(load_benchmark(benchmark_file(side=SIDE, **sets)), str(root), limit, cache)

    return read


def test_a_corruption_that_there_is_not_stops_before_training(data):
    with pytest.raises(InputError, match=r"'brightnes' is refused.*Did you mean 'brightness'"):
        data(names=["brightnes"]).check()


class TestMade:
    @pytest.fixture(autouse=True)
    def _library(self):
        pytest.importorskip("imagecorruptions", reason="needs the extra `corruptions`")

    @pytest.mark.parametrize("cached", [False, True])
    def test_each_picture_stands_once_under_one_of_the_variants(self, data, cached, tmp_path):
        found = data(cache=tmp_path if cached else None)
        test, made = found.test, found.shift["made"]
        assert len(made) == len(test) == 12
        assert np.array_equal(made.labels_N, test.labels_N)
        assert made.covered == test.covered
        variants = [("brightness", 1), ("brightness", 5), ("contrast", 1), ("contrast", 5)]
        for row in range(12):
            name, severity = variants[variant_of(row, 12, 4)[1]]
            seeds = np.random.SeedSequence([row, ("brightness", "contrast").index(name) + 10, severity])
            expected = corrupt(test.images_NHWC[row], name, severity, int(seeds.generate_state(1)[0]))
            assert np.array_equal(made.images_NHWC[row], expected)

    def test_more_variants_of_each_picture_if_asked_and_no_more_than_there_are(self, data):
        found = data(per_picture=3)
        assert found.shift["made"].labels_N.tolist() == found.test.labels_N.tolist() * 3
        assert len(data(per_picture=99).shift["made"]) == 4 * 12

    def test_a_limit_takes_from_the_whole_test_set_and_makes_no_more(self, data):
        whole, part = data().shift["made"], data(limit=6).shift["made"]
        assert np.bincount(part.labels_N).tolist() == [2, 2, 2]
        assert {image.tobytes() for image in part.images_NHWC} < {image.tobytes() for image in whole.images_NHWC}

    def test_what_is_made_is_kept_and_made_anew_when_its_source_changes(self, data, tmp_path, pictures, monkeypatch):
        from reprog_kit import corruptions

        first = np.asarray(data(cache=tmp_path).shift["made"].images_NHWC)
        with monkeypatch.context() as patch:
            patch.setattr(corruptions, "corrupt", lambda *_: pytest.fail("made again"))
            assert np.array_equal(data(cache=tmp_path).shift["made"].images_NHWC, first)
        turned = {"train": {"kind": "folder", "path": "train"}, "test": {"kind": "folder", "path": "shift"}}
        other = data(cache=tmp_path).benchmark.model_dump(by_alias=True)
        other["id"] = {**turned, "validation": 0.2}
        changed = BenchmarkData(type(data().benchmark)(**other), str(pictures), cache=tmp_path).shift["made"]
        assert len(changed) == 9
        assert not np.array_equal(np.asarray(changed.images_NHWC), first[:9])

    def test_an_ood_set_of_corrupted_pictures_has_no_labels(self, data):
        found = data(role="ood").ood["made"]
        assert (set(found.labels_N), found.covered) == ({-1}, ())

    def test_made_pictures_are_not_called_as_the_published_are(self, data):
        assert list(data(published="no-such-folder").shift) == ["made_made"]


def test_without_library_and_files_the_set_is_missing_and_may_be_skipped(data, monkeypatch, pictures, benchmark_file):
    from reprog_kit import corruptions

    monkeypatch.setattr(corruptions, "LIBRARY", "no-such-library")
    with pytest.raises(InputError, match=r"(?s)1 of the sets .*no published files at .*C-files.*pip install"):
        data(published="C-files").check()
    spec = {"made": {"kind": "corrupted", "names": NAMES}}
    found = BenchmarkData(load_benchmark(benchmark_file(side=SIDE, shift=spec)), str(pictures), missing_sets="skip")
    found.check()
    assert "pip install" in found.absent["made"]
    assert found.shift == {}


@pytest.fixture
def published_files(tmp_path, data, pictures):
    """The published layout: a file a corruption, severities 1 to 5 in blocks of the test set's 12 pictures."""
    labels = data().test.labels_N
    (tmp_path / "C").mkdir()
    for number, name in enumerate(NAMES):
        pixels = np.zeros((60, SIDE, SIDE, 3), np.uint8)
        pixels[:, 0, 0, 0], pixels[:, 0, 0, 1], pixels[:, 0, 0, 2] = (
            number,
            np.repeat(range(1, 6), 12),
            list(range(12)) * 5,
        )
        np.save(tmp_path / "C" / f"{name}.npy", pixels)
    np.save(tmp_path / "C" / "labels.npy", np.tile(labels, 5))
    return tmp_path / "C"


def test_published_pictures_are_taken_whole_with_their_labels(data, published_files):
    found = data(published=str(published_files))
    made = found.shift["made"]
    assert len(made) == 2 * 2 * 12
    assert isinstance(made.images_NHWC, Rows)
    said = np.asarray(made.images_NHWC)[:, 0, 0]
    assert {tuple(row) for row in said.tolist()} == {(n, s, p) for n in (0, 1) for s in (1, 5) for p in range(12)}
    assert np.array_equal(made.labels_N, found.test.labels_N[said[:, 2]])


def test_a_limit_of_published_pictures_holds_distinct_ones_of_every_variant(data, published_files):
    made = data(published=str(published_files), limit=12).shift["made"]
    said = np.asarray(made.images_NHWC)[:, 0, 0].tolist()
    assert len({picture for _, _, picture in said}) == 12
    assert len({(name, severity) for name, severity, _ in said}) == 4


def test_published_pictures_of_another_test_set_are_refused(data, published_files):
    labels = np.load(published_files / "labels.npy")
    np.save(published_files / "labels.npy", labels[::-1])
    with pytest.raises(InputError, match="not those of this test set"):
        _ = data(published=str(published_files)).shift
