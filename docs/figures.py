"""Draw the README's figures anew from the demo's runs; a padding that was not trained yet is trained first."""

from pathlib import Path

from reprog_kit import (
    AblationSettings,
    Report,
    ReportSettings,
    SweepSettings,
    ablate,
    ablation_plots,
    read_ledger,
    report_plots,
    sweep_plots,
    sweep_runs,
)


def main(runs: str = "runs") -> None:
    """Write docs/demo.png, docs/alpha.png and docs/padding.png."""
    report = Report(ReportSettings.build(dataset="demo", variants=False, runs=runs))
    rows = read_ledger(runs, "demo")
    plain = rows[(rows["method"] == "reprogrammer") & (rows["variant"] == "")]["run"].drop_duplicates()
    seeds = plain.groupby(plain.str.rpartition("-s")[0]).transform("size")
    _, swept = sweep_runs(SweepSettings.build(run=plain[seeds.idxmax()], runs=runs))
    figures = {
        "demo": report_plots.trade_offs(report.found, report.score),
        "alpha": sweep_plots.curves(swept),
        "padding": ablation_plots.padding_curves(ablate(AblationSettings.build(dataset="demo", runs=runs))),
    }
    for name, figure in figures.items():
        figure.write_image(Path(__file__).parent / f"{name}.png", width=1000, scale=2)


if __name__ == "__main__":
    main()
