"""Published numbers: none without a source, and each beside the number of ours that has the same names."""

import pytest
import yaml
from ledgers import ledger, row

from reprog_kit.ledger import METRICS, estimates
from reprog_kit.parameters import InputError
from reprog_kit.published import beside_published, read_published
from reprog_kit.settings import find_params

ENTRY = {
    "method": "wise_ft", "model": "ViT", "source": "a paper, Table 1", "url": "https://example.org/1",
    "percent": {"cifar10": {"test": {"accuracy": 97.5}}},
}  # fmt: skip


def entries(tmp_path, *changes: dict):
    path = tmp_path / "published.yaml"
    made = [{k: v for k, v in {**ENTRY, **change}.items() if v is not None} for change in changes]
    path.write_text(yaml.safe_dump({"published": made}))
    return read_published(path)


@pytest.mark.parametrize(("change", "message"), [
    ({"source": None}, r"published\.0\.source: Field required"),
    ({"source": " "}, r"published\.0\.source"),
    ({"url": "somewhere"}, r"published\.0\.url"),
    ({"method": "wise_fit"}, r"no method 'wise_fit'\. Did you mean 'wise_ft'\?"),
    ({"percent": {"a": {"test": {"accurcy": 1}}}}, r"a, test: no metric 'accurcy'\. Did you mean 'accuracy'\?"),
    ({"percent": {"a": {"test": {"accuracy": 120}}}}, "120.0 is no percentage"),
    ({"table": 3}, r"published\.0\.table: Extra inputs"),
])  # fmt: skip
def test_an_entry_that_says_too_little_or_nonsense_is_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        entries(tmp_path, change)


def test_our_file_is_whole_and_is_no_benchmark():
    assert all(entry.source and entry.url for entry in read_published())
    with pytest.raises(InputError, match="unknown dataset 'published'"):
        find_params("published")


def test_a_number_stands_beside_ours_where_all_names_agree(tmp_path):
    detection = {"score": "mcm", "percent": {"CIFAR-10": {"DTD": {"auroc": 90.0}}}}
    found = estimates([
        row("wise_ft", 0.9, dataset="cifar10", seed=1), row("wise_ft", 0.92, dataset="cifar10", seed=2),
        row("wise_ft", 0.8, "ood", "dtd", "auroc", score="mcm", dataset="cifar10"),
        row("wise_ft", 0.7, "ood", "dtd", "auroc", score="msp", dataset="cifar10"),
        row("coop", 0.5, dataset="cifar10"),
    ])  # fmt: skip
    text = beside_published(found, "cifar10", entries(tmp_path, {}, detection, {"variant": "other"})).text
    shown = {(line, *map(str, cells)) for line, *cells in text[["set", "ours", "published"]].itertuples()}
    assert {(line.split(" (1")[0].split(" (2")[0], *rest) for line, *rest in shown} == {
        ("WiSE-FT", "test", "90.0", "97.50"), ("WiSE-FT", "test", "92.0", "97.50"), ("WiSE-FT", "DTD", "80.0", "90.00"),
        ("WiSE-FT (other)", "test", "–", "97.50"), ("CoOp", "test", "50.0", "–"),
    }  # fmt: skip
    assert (text["source"][text["published"] != "–"] == "a paper, Table 1").all()


def test_nothing_stands_beside_a_benchmark_that_nobody_published_for():
    made = beside_published(estimates(ledger(("coop",), (1,))), "demo")
    assert made.text.empty and made.sentence == "Nothing was published for demo."
    assert "Nothing was published for demo." in made._repr_html_()


def test_metrics_of_the_file_are_those_of_the_ledger():
    named = {m for entry in read_published() for sets in entry.percent.values() for of in sets.values() for m in of}
    assert named <= set(METRICS)
