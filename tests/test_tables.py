"""Tables: cells, bold and LaTeX against what the rows say."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from ledgers import SCORES, SETS, ledger, row

from reprog_kit.ledger import NAMES, estimates
from reprog_kit.tables import Table, paper_tables, per_set, summary, table, written


@pytest.fixture(scope="module")
def found():
    return estimates(ledger(variants=("", "padding 8")))


@pytest.fixture(scope="module")
def tables(found):
    return paper_tables(found, "energy")


def cell(**given) -> dict:
    return {"metric": "accuracy", "role": "id", "std": np.nan, "low": np.nan, "high": np.nan, **given}


def test_a_number_is_written_with_its_spread_and_interval_where_it_has_them():
    assert written(cell(value=0.9604)) == "96.0"
    assert written(cell(value=0.9604, std=0.0061)) == "96.0 ± 0.6"
    assert written(cell(value=0.9604, std=0.0, low=0.943, high=0.975), interval=True) == "96.0 ± 0.0 [94.3, 97.5]"
    cost = {"role": "cost", "metric": "trainable_numbers"}
    assert written(cell(value=6_120_000, std=0.0, **cost)) == "6,120,000"
    assert written(cell(value=128_400, **{**cost, "metric": "program_bytes"})) == "128.4"


def test_the_summary_is_means_over_sets_and_has_a_spread_only_with_several_seeds():
    rows = [row("coop", 0.9, seed=s) for s in (1, 2)] + [row("zero_shot", 0.8)]
    rows += [row("coop", v, "shift", s, seed=seed) for seed, d in ((1, 0), (2, 0.02))
             for s, v in (("a", 0.5 + d), ("b", 0.7 + d))]  # fmt: skip
    rows += [row("zero_shot", v, "ood", "o", m, n=9) for m, v in (("auroc", 0.75), ("fpr_at_95_id_recall", 0.5))]
    shown = summary(rows)
    assert list(shown.columns) == ["ID accuracy", "shift accuracy", "FPR95", "AUROC"]
    assert list(shown.loc["zero-shot"]) == ["80.0", "–", "50.0", "75.0"]
    assert list(shown.loc["CoOp"]) == ["90.0 ± 0.0", "61.0 ± 1.4", "–", "–"]


def test_every_set_has_a_row_with_its_interval_in_the_order_of_the_roles():
    shown = per_set(ledger(("residual",)))
    assert list(shown.columns) == ["zero-shot", "residual"]
    assert [name for _, name, _, _ in shown.index] == [name for sets in SETS.values() for name in sorted(sets)]
    assert re.fullmatch(r"\d+\.\d ± \d\.\d \[\d+\.\d, \d+\.\d\]", shown["residual"].iloc[0])
    assert "±" not in shown["zero-shot"].iloc[0]


def test_the_tables_have_the_papers_shape(tables):
    lines = [NAMES["zero_shot"], "reprogrammer", "reprogrammer (padding 8)", *list(NAMES.values())[2:]]
    for name in ("summary", "id", "shift", "ood"):
        assert list(tables[name].text.index) == lines
    assert list(tables["shift"].text.columns) == [*sorted(SETS["shift"]), "mean"]
    assert [head for head, _ in tables["ood"].text.columns][::2] == [*sorted(SETS["ood"]), "mean"]
    assert list(tables["detectors_auroc"].text.columns) == list(NAMES.values())
    assert len(tables["detectors_fpr95"].text) == len(SCORES)
    assert list(tables["cost"].text.index) == lines[1:]


def test_the_ood_table_shows_the_score_that_was_asked_for(found, tables):
    energy = found[(found["line"] == "CoOp") & (found["set"] == "letters") & (found["score"] == "energy")]
    value = energy[energy["metric"] == "auroc"]["value"].item()
    assert tables["ood"].text.loc["CoOp", ("letters", "AUROC ↑")].startswith(f"{100 * value:.1f} ")
    assert tables["ood"].numbers.loc["CoOp", "letters AUROC ↑"] == pytest.approx(100 * value)


def test_bold_is_the_best_as_printed_low_where_low_is_better_and_both_on_a_tie():
    rows = [row(m, v, "ood", "o", metric) for metric in ("auroc", "fpr_at_95_id_recall")
            for m, v in (("coop", 0.5001), ("lp_ft", 0.5004), ("l2_sp", 0.4))]  # fmt: skip
    best = paper_tables(estimates(rows))["ood"].best
    assert list(best[("o", "AUROC ↑")]) == [True, False, True]  # LP-FT, L2-SP, CoOp
    assert list(best[("o", "FPR95 ↓")]) == [False, True, False]


def test_a_column_of_one_number_has_no_best_and_zero_shot_wins_no_cost():
    assert not paper_tables(estimates([row("coop", 0.5)]))["id"].best.any(axis=None)
    rows = [row(m, v, "cost", "train", "trainable_numbers") for m, v in (("zero_shot", 0), ("coop", 9), ("lp_ft", 5))]
    assert list(paper_tables(estimates(rows))["cost"].best.iloc[:, 0]) == [False, True, False]


@pytest.mark.parametrize("name", ["summary", "id", "shift", "ood", "detectors_auroc", "cost"])
def test_latex_has_booktabs_and_as_many_cells_as_columns_in_every_row(tables, name):
    latex, shown = tables[name].latex(), tables[name].text
    rules = [r"\toprule", r"\midrule", r"\bottomrule"]
    assert [line for line in latex.splitlines() if line.endswith("rule")] == rules
    (declared,) = re.findall(r"\\begin\{tabular\}\{(l+r+)\}", latex)
    assert len(declared) == 1 + shown.shape[1]
    body = latex.split(rules[0])[1].split(rules[2])[0].replace(f"{rules[1]}\n", "").strip().splitlines()
    assert len(body) == shown.columns.nlevels + len(shown)
    for line in body:
        assert line.endswith(r"\\")
        spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
        assert len(re.split(r"(?<!\\)&", line)) + sum(spans) - len(spans) == len(declared)
    assert latex.count("{") == latex.count("}") and latex.count(r"\begin{") == latex.count(r"\end{") == 2
    assert latex.isascii()


def test_latex_escapes_what_would_break_it():
    text = pd.DataFrame({"a_b & 5%": ["$1 ± 2 ↓", "–"]}, index=["x#{y}", "~^\\"])
    latex = Table("t", "100% of a_b", text, sentence="A < B").latex()
    for piece in (r"a\_b \& 5\%", r"\$1 $\pm$ 2 $\downarrow$", r"x\#\{y\}", r"\textasciitilde{}\textasciicircum{}",
                  r"\textbackslash{}", r"100\% of a\_b", r"A \textless{} B", "--"):  # fmt: skip
        assert piece in latex


def test_html_escapes_and_carries_sentence_and_bold(tables):
    text = pd.DataFrame({"<b>": ["a & b"]}, index=["<script>"])
    html = Table("t", "", text, sentence="x < y", note="n & m")._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html and "a &amp; b" in html and "x &lt; y" in html
    assert "font-weight: bold" in tables["ood"]._repr_html_()


def test_csv_reads_back_as_the_numbers(tables):
    made = tables["shift"]
    back = pd.read_csv(io.StringIO(made.csv()), index_col=0)
    pd.testing.assert_frame_equal(back, made.numbers, check_names=False)
    assert {"rotated", "rotated std", "rotated low", "rotated high", "mean"} <= set(back.columns)


def test_an_empty_table_says_so_and_writes_no_latex():
    empty = table("shift", "t", estimates([row("coop", 0.5)]).iloc[:0], ["set"])
    assert empty.text.empty and empty.latex() == ""
    assert empty._repr_html_() == "<p><b></b></p>"


def test_a_ledger_without_shift_ood_or_cost_still_has_its_tables():
    made = paper_tables(estimates([row("coop", 0.5), row("zero_shot", 0.4)]))
    assert list(made["summary"].text.loc["CoOp"]) == ["50.0", "–", "–", "–"]
    assert all(made[name].text.empty for name in ("shift", "ood", "detectors_auroc", "cost"))
