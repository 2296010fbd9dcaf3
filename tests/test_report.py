"""The report: what it rests on, its files, and what it refuses."""

import pandas as pd
import pytest
from ledgers import ledger, row, write

from reprog_kit.parameters import InputError
from reprog_kit.report import Report
from reprog_kit.settings import ReportSettings


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return write(ledger(variants=("", "padding 8")), tmp_path_factory.mktemp("runs"))


def report(runs, **given) -> Report:
    return Report(ReportSettings.build(runs=str(runs), **given))


def test_it_says_what_it_rests_on(runs):
    assert report(runs, score="mcm").describe() == (
        "demo: 10 lines from 30 runs, seeds 1, 2, 3; pictures: 597 ID, 2,988 shift, 2,000 OOD; score MCM; "
        "on cpu, torch 2.15.0"
    )


def test_every_table_has_its_sentence_and_note(runs):
    made = report(runs).tables
    assert set(made) == {
        "summary", "id", "shift", "ood", "detectors_auroc", "detectors_fpr95", "cost", "published",
    }  # fmt: skip
    assert all(table.sentence.endswith(".") for table in made.values())
    assert "over 3 seeds" in made["id"].note and "bootstrap" in made["id"].note and "least" in made["cost"].note


def test_variants_can_be_left_out(runs):
    assert "reprogrammer (padding 8)" in report(runs).tables["id"].text.index
    assert "reprogrammer (padding 8)" not in report(runs, variants=False).tables["id"].text.index


def test_the_files_are_one_long_csv_and_each_table_twice(runs):
    made = report(runs)
    written = made.export()
    assert made.folder == runs / "report-demo" and {path.parent for path in written} == {made.folder}
    names = [name for name, table in made.tables.items() if not table.text.empty]
    assert {p.name for p in written} == {"results.csv"} | {f"{name}.{end}" for name in names for end in ("csv", "tex")}
    back = pd.read_csv(made.folder / "results.csv", keep_default_na=False, na_values={"value": [""]})
    assert list(back["line"]) == list(made.found["line"]) and list(back["value"]) == pytest.approx(
        list(made.found["value"])
    )


def test_its_folder_is_no_run_and_does_not_feed_back(runs):
    before = len(report(runs).rows)
    report(runs).export()
    assert len(report(runs).rows) == before


def test_a_yaml_stands_for_its_name_and_an_unknown_dataset_is_refused(runs):
    assert report(runs, dataset="some/where/demo.yaml").dataset == "demo"
    with pytest.raises(InputError, match="There are: demo"):
        report(runs, dataset="cifar10")


def test_the_smallest_ledger_makes_a_report(tmp_path):
    made = report(write([row("coop", 0.5)], tmp_path))
    assert made.tables["id"].sentence == "Only CoOp was measured on the ID test set: 50.0%."
    assert {p.name for p in made.export()} == {"results.csv", "summary.csv", "summary.tex", "id.csv", "id.tex"}
