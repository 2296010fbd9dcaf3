"""Real packs, where ../shared/data has them."""

import pytest
import yaml

from reprog_kit.benchmarks import load_benchmark
from reprog_kit.datasets import BenchmarkData
from reprog_kit.settings import project_root

DATA = project_root().parent / "shared" / "data"
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
