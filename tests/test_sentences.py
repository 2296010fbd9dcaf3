"""Sentences are right, also on ties, single seeds, missing methods and roles: ledgers whose answer is known."""

import numpy as np
import pytest
from ledgers import ledger, row
from scipy.stats import ttest_1samp, ttest_ind

from reprog_kit.ledger import axis, estimates
from reprog_kit.sentences import against_fine_tuning, cheapest, detectors, finding, headline, leader, verdict, welch


def seeds(method, *values, **given) -> list[dict]:
    return [row(method, value, seed=i, **given) for i, value in enumerate(values)]


def said(*rows, name="ID accuracy") -> str:
    return leader(estimates([r for part in rows for r in part]), name)


def two(a, b):
    part = axis(estimates([*a, *b]), "ID accuracy")
    return part.iloc[0], part.iloc[1]


def test_the_interval_of_a_difference_is_welchs():
    a, b = (0.90, 0.93, 0.91, 0.94), (0.80, 0.86, 0.83)
    interval = ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert welch(*two(seeds("lp_ft", *a), seeds("coop", *b))) == pytest.approx((interval.high - interval.low) / 2)


def test_zero_shot_counts_as_exact():
    interval = ttest_1samp((0.90, 0.93, 0.91), 0.8).confidence_interval(0.95)
    half = welch(*two(seeds("zero_shot", 0.8), seeds("coop", 0.90, 0.93, 0.91)))
    assert half == pytest.approx((interval.high - interval.low) / 2)


def test_a_single_seed_has_no_interval_and_equal_seeds_have_none_to_exceed():
    assert welch(*two(seeds("lp_ft", 0.9), seeds("coop", 0.8, 0.7))) is None
    assert welch(*two(seeds("lp_ft", 0.9, 0.9), seeds("coop", 0.8, 0.8))) == 0.0


@pytest.mark.parametrize(("a", "b", "wide", "expected"), [
    ((0.90, 0.94), (0.89, 0.93), None, "no difference that the seeds could tell"),
    ((0.90, 0.90), (0.90, 0.90), None, "no difference that the seeds could tell"),
    ((0.900, 0.901, 0.902), (0.800, 0.801, 0.802), None, "seeds tell them apart"),
    ((0.900, 0.901, 0.902), (0.800, 0.801, 0.802), 0.01, "seeds tell them apart, pictures too"),
    ((0.900, 0.901, 0.902), (0.800, 0.801, 0.802), 0.09, "seeds tell them apart, pictures do not"),
    ((0.9,), (0.8,), None, "one seed"),
    ((0.9,), (0.8,), 0.01, "one seed; pictures tell them apart"),
    ((0.9,), (0.8,), 0.09, "one seed; no difference that the pictures could tell"),
])  # fmt: skip
def test_the_verdict_names_what_tells_two_lines_apart(a, b, wide, expected):
    made = [
        [{**r, "low": r["value"] - wide, "high": r["value"] + wide} if wide else r for r in seeds(m, *values)]
        for m, values in (("lp_ft", a), ("coop", b))
    ]
    assert verdict(*two(*made)) == expected


def test_the_best_is_named_with_its_gain_and_the_next():
    text = said(seeds("zero_shot", 0.8), seeds("coop", 0.9, 0.902), seeds("lp_ft", 0.95, 0.951))
    assert text.startswith("LP-FT is best on the ID test set: 95.0 ± 0.1%, 15.0 points above zero-shot (seeds tell")
    assert "; the next, CoOp, is 4.9 points below (seeds tell them apart)." in text or "5.0 points below" in text


def test_where_low_is_better_the_best_is_the_lowest():
    rows = [
        row(m, v, "ood", "o", "fpr_at_95_id_recall") for m, v in (("zero_shot", 0.5), ("coop", 0.3), ("lp_ft", 0.4))
    ]
    assert leader(estimates(rows), "FPR95") == (
        "CoOp is best at OOD detection (FPR95): 30.0%, 20.0 points below zero-shot (one seed); "
        "the next, LP-FT, is 10.0 points above (one seed)."
    )


def test_a_tie_as_printed_names_all_and_no_next():
    text = said(seeds("zero_shot", 0.8), seeds("coop", 0.90001), seeds("lp_ft", 0.90002), seeds("l2_sp", 0.7))
    assert text == "LP-FT and CoOp are level on the ID test set at 90.0%, 10.0 points above zero-shot (one seed)."


def test_zero_shot_may_be_the_best_and_is_then_not_compared_with_itself():
    text = said(seeds("zero_shot", 0.8), seeds("coop", 0.7))
    assert text == "Zero-shot is best on the ID test set: 80.0%; the next, CoOp, is 10.0 points below (one seed)."


def test_without_zero_shot_nothing_is_said_of_it_and_one_method_alone_is_not_best():
    assert "zero-shot" not in said(seeds("lp_ft", 0.8), seeds("coop", 0.7))
    assert said(seeds("coop", 0.7)) == "Only CoOp was measured on the ID test set: 70.0%."


def test_missing_roles_are_said_to_be_missing():
    found = estimates(seeds("coop", 0.7))
    assert leader(found, "shift accuracy") == "Nothing was measured under shift."
    assert leader(found, "AUROC") == "Nothing was measured at OOD detection (AUROC)."
    assert detectors(found) == "No OOD set was evaluated."
    assert cheapest(found) == "The ledger says nothing of what training costs."
    assert against_fine_tuning(found) == ""


def test_zero_shot_of_another_model_is_not_compared_with():
    text = said(seeds("zero_shot", 0.8, model="vit"), seeds("coop", 0.9, model="mini"))
    assert "above zero-shot" not in text and "the next, zero-shot (vit)" in text


def test_ours_stand_against_fine_tuning_with_sign_and_verdict():
    shift = {"role": "shift", "data": "a"}
    rows = seeds("fine_tune", 0.70, 0.71, 0.72, **shift) + seeds("reprogrammer", 0.69, 0.71, 0.73, **shift)
    rows += seeds("residual", 0.90, 0.91, 0.92, **shift) + seeds("residual", 0.1, variant="alpha 0.9", **shift)
    rows += [r | {"role": "ood", "score": "msp", "metric": "auroc"} for r in rows if r["method"] != "residual"]
    assert against_fine_tuning(estimates(rows)) == (
        "Points against fine-tuning, under shift reprogrammer +0.0 (no difference that the seeds could tell), "
        "residual +20.0 (seeds tell them apart); in AUROC reprogrammer +0.0 (no difference that the seeds could tell)."
    )
    without = [r for r in rows if r["method"] != "fine_tune"]
    assert against_fine_tuning(estimates(without)) == ""


def test_the_best_detector_is_the_one_that_wins_most_methods():
    values = {
        "coop": {"msp": 0.8, "energy": 0.9},
        "lp_ft": {"msp": 0.7, "energy": 0.75},
        "l2_sp": {"msp": 0.95, "energy": 0.9},
    }
    rows = [row(m, v, "ood", "o", "auroc", score=s) for m, of in values.items() for s, v in of.items()]
    assert detectors(estimates(rows)) == (
        "By AUROC, energy is the best detector for 2 of 3 methods; best of all is MSP with L2-SP, 95.0%."
    )
    level = [row("coop", 0.8, "ood", "o", "auroc", score=s) for s in ("msp", "mcm")]
    assert detectors(estimates(level)) == (
        "By AUROC, MSP and MCM are each the best detector for 1 of 1 methods; "
        "best of all are MSP with CoOp and MCM with CoOp, 80.0%."
    )
    assert detectors(estimates(level[:1])) == "MSP is the only detector; its best AUROC is 80.0%, MSP with CoOp."


def test_the_cheapest_leaves_zero_shot_out_and_names_ties():
    def cost(method, numbers, seconds, **given):
        found = {"trainable_numbers": numbers, "train_seconds": seconds}
        return [row(method, v, "cost", "train", metric, **given) for metric, v in found.items()]

    rows = cost("zero_shot", 0, 0) + cost("coop", 9, 5.0) + cost("lp_ft", 9, 4.0)
    assert (
        cheapest(estimates(rows)) == "LP-FT and CoOp each trains the fewest numbers (9); LP-FT trains fastest (4.0 s)."
    )
    rows = cost("coop", 9, 5.0, device="cpu") + cost("lp_ft", 10, 4.0, device="H100")
    assert cheapest(estimates(rows)) == "CoOp (cpu) trains the fewest numbers (9)."  # seconds of two devices


def test_the_headline_counts_points_for_two_methods_and_names_the_best_of_more():
    few = [*seeds("zero_shot", 0.8), *seeds("reprogrammer", 0.9), *seeds("residual", 0.85)]
    assert finding(few) == "Points gained over zero-shot: reprogrammer ID +10.0; residual ID +5.0"
    many = estimates(ledger(seeds=(1,)))
    text = headline(many)
    best = {name: axis(many, name)["value"].idxmax() for name in ("ID accuracy", "shift accuracy", "AUROC")}
    assert all(f"{short} {best[name]} (" in text for short, name in zip(("ID", "shift", "AUROC"), best))


def test_sentences_hold_for_the_full_ledger():
    found = estimates(ledger())
    for name in ("ID accuracy", "shift accuracy", "AUROC"):
        part = axis(found, name)
        order = part["value"].sort_values(ascending=False)
        gap = 100 * (order.iloc[0] - part["value"]["zero-shot"])
        assert leader(found, name).lower().startswith(order.index[0].lower())
        assert f"{gap:.1f} points above zero-shot" in leader(found, name)
    assert np.isfinite(axis(found, "AUROC")["std"].drop("zero-shot")).all()
