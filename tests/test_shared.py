"""Real packs, where ../shared/data has them."""

from importlib.util import find_spec

import pytest
import yaml

from reprog_kit.benchmarks import load_benchmark
from reprog_kit.datasets import BenchmarkData
from reprog_kit.evaluation import Evaluation
from reprog_kit.results import score
from reprog_kit.runs import train_run
from reprog_kit.settings import EvaluateSettings, TrainSettings, project_root

DATA = project_root().parent / "shared" / "data"
NATURAL = str(project_root() / "docs" / "natural.yaml")
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not DATA.is_dir(), reason="no pictures in ../shared/data"),
]


def test_textures_as_a_benchmark_with_a_held_out_part_and_caltech_without_overlap_as_ood(tmp_path):
    pack = {"kind": "parquet", "path": "dtd_10class.parquet"}
    caltech = {"kind": "parquet", "path": "caltech101.parquet", "drop": ["BACKGROUND_Google"]}
    content = {"side": 32, "id": {"train": pack, "test": pack, "validation": 0.1}, "ood": {"caltech": caltech}}
    (tmp_path / "textures.yaml").write_text(yaml.safe_dump(content))
    data = BenchmarkData(load_benchmark(str(tmp_path / "textures.yaml")), str(DATA))
    data.check()
    assert (len(data.classes), len(data.train), len(data.validation), len(data.test)) == (10, 1080, 120, 1200)
    assert len(data.ood["caltech"]) == 9144 - 467  # Caltech-101's own count of background pictures
    assert data.test.images_NHWC.std(axis=(1, 2, 3)).min() > 0  # no picture is blank


def natural(**given) -> TrainSettings:
    """Return settings of the worked example; without the library of the corruptions that set is left out."""
    skip = "stop" if find_spec("imagecorruptions") else "skip"
    return TrainSettings.build(dataset=NATURAL, data_root=str(DATA), device="cpu", missing_sets=skip, **given)


def test_the_worked_example_finds_its_sets(tmp_path):
    data = BenchmarkData.of(natural(runs=str(tmp_path)))
    data.check()
    taken = {name: data.listed(name, role, spec) for name, role, spec in data.specs() if name != "corrupted"}
    assert {name: len(found.rows) for name, found in taken.items()} == {
        "train": 50_000, "test": 10_000,
        "tiny_imagenet": 21 * 50,  # validation pictures of the classes that the YAML maps
        "dtd": 1_200,
        "caltech101": 9_144 - 2_390,  # Caltech-101's own counts of the 17 classes that are dropped
    }  # fmt: skip
    ours = {data.classes[label] for label in set(taken["tiny_imagenet"].labels_N.tolist())}
    assert set(data.classes) - ours == {"airplane", "deer", "horse"}


@pytest.mark.slow
def test_a_tiny_run_of_the_worked_example(tmp_path):
    settings = natural(runs=str(tmp_path), limit=60, epochs=2, batch_size=20, warmup_steps=2)
    run = train_run(settings)
    evaluation = Evaluation(EvaluateSettings.build(run=run.name, runs=str(tmp_path), resamples=0, device="cpu"))
    data = evaluation.data
    assert {len(found) for found in (data.train, data.validation, *dict(evaluation.sets.values()).values())} == {60}
    names = ["test", "corrupted", "tiny_imagenet", "dtd", "caltech101"]
    assert list(evaluation.sets) == [name for name in names if name not in data.absent]
    for _, found in evaluation.sets.values():
        assert found.images_NHWC[:].shape == (60, 32, 32, 3)
        assert found.images_NHWC[:].std(axis=(1, 2, 3)).min() > 0
        assert evaluation.cosines("reprogrammer", found)[0].shape == (60, 10)
    rows = score(evaluation)
    assert all(0 <= row["value"] <= 1 for row in rows if row["metric"] in ("accuracy", "auroc"))
    accuracy = {row["set"]: row["value"] for row in rows if (row["method"], row["metric"]) == ("zero_shot", "accuracy")}
    assert accuracy["test"] > 0.3  # mini reads CIFAR-10 at 52%; chance is 10%
