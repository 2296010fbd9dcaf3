"""The notebooks, headless: papermill runs them, nbconvert joins what they showed into one page."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

from .files import write_whole
from .parameters import InputError
from .report import Report
from .settings import ReportSettings, TrainSettings, in_project, project_root

_CONFIG = {
    # Without it ipykernel 7 warns about unencrypted loopback traffic at every start.
    "KernelManager": {"transport_encryption": "auto"},
    # After its last cell a kernel has nothing left to write, and needs a second or two for its leave.
    "NotebookClient": {"shutdown_kernel": "immediate"},
}


def run_notebook(name: str, out: Path, **parameters: Any) -> Path:
    """Execute a notebook of the project with papermill.

    Parameters
    ----------
    name : str
        Its stem in notebooks/.
    out : Path
        Where the executed notebook goes.
    **parameters
        What papermill injects; None means "not given".

    Raises
    ------
    InputError
        What a cell refused, with the path of the notebook as far as it came.
    """
    import papermill
    from traitlets.config import Config

    out.parent.mkdir(parents=True, exist_ok=True)
    given = {key: value for key, value in parameters.items() if value is not None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            papermill.execute_notebook(
                project_root() / "notebooks" / f"{name}.ipynb", out, given,
                kernel_name="python3",
                stdout_file=sys.stdout,  # the progress bar streams
                config=Config(_CONFIG),
                progress_bar=False, cwd=project_root(),
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            raise InputError(f"{name}.ipynb stopped: {error.ename}: {error.evalue}\nAs far as it came: {out}") from None
    return out


def page(notebooks: list[Path], out: Path, title: str) -> Path:
    """Write executed notebooks as one HTML page: prose, tables and figures, without the code and the progress bars."""
    import nbformat
    from nbconvert import HTMLExporter

    cells, libraries = [], set()
    for path in notebooks:
        for cell in nbformat.read(path, as_version=4).cells:
            if "injected-parameters" in cell.metadata.get("tags", []):
                continue
            if cell.cell_type == "code":
                cell.outputs = [o for o in cell.outputs if not _superfluous(o, libraries)]
            cells.append(cell)
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    joined = nbformat.v4.new_notebook(cells=cells, metadata={"title": title})
    html, _ = HTMLExporter(exclude_input=True, exclude_output_prompt=True).from_notebook_node(joined)
    # Without code there are no prompts, so prose and outputs share one left edge.
    plain = "<style>.jp-InputPrompt { display: none } body { max-width: 1100px; margin: auto }</style></head>"
    return write_whole(out, html.replace("</head>", plain, 1))


def _superfluous(output, libraries: set[str]) -> bool:
    """Say whether an output is a progress bar, or plotly's library (4 MB) once more."""
    if output.output_type == "stream":
        return "step/s" in output.text
    html = output.get("data", {}).get("text/html", "")
    if len(html) < 1_000_000:
        return False
    seen = html in libraries
    libraries.add(html)
    return seen


def train_and_evaluate(name: str, parameters: dict[str, Any], seeds: list[int] | None = None) -> list[Path]:
    """Execute `train.ipynb`, then `evaluate.ipynb`, and return the paths of both as they are in runs/notebooks/.

    Parameters
    ----------
    name : str
        Of the run that the parameters lead to.
    parameters : dict
        Of `train.ipynb`; ``runs`` is among them.
    seeds : list of int, optional
        Which of the run's seeds are evaluated; by default all that are trained.
    """
    runs = Path(parameters["runs"])
    trained, evaluated = (runs / "notebooks" / f"{name}-{step}.ipynb" for step in ("train", "evaluate"))
    run_notebook("train", trained, **parameters)
    scored = {"run": str(runs / name), "runs": str(runs), "device": parameters.get("device"), "seeds": seeds}
    return [trained, run_notebook("evaluate", evaluated, **scored)]


def reproduce(dataset: str, **parameters: Any) -> Path:
    """Train on a benchmark, evaluate, and return the path of one page with all that was found."""
    from .runs import prepare  # torch; a report does without

    settings = TrainSettings.build(dataset=dataset, **parameters)
    run, _, data = prepare(settings.each_seed()[0])  # refuses what cannot be had before a kernel starts
    runs = run.folder.parent
    # The kernels start in the project's folder, so they get the paths as they are from here.
    found = {"dataset": run.settings.dataset, "data_root": run.settings.data_root, "runs": str(runs)}
    trained, evaluated = train_and_evaluate(run.name, {**parameters, **found})
    return page([trained, evaluated], run.folder / "report.html", data.benchmark.title or data.benchmark.name)


def report(dataset: str, **parameters: Any) -> Path:
    """Execute the report of a benchmark and return the path of its page; its CSV and LaTeX files lie beside it."""
    made = Report(ReportSettings.build(dataset=dataset, **parameters))  # refuses an empty ledger before a kernel starts
    found = {"dataset": made.dataset, "runs": str(in_project(made.settings.runs).resolve())}
    found["folder"] = str(made.folder.resolve())
    executed = run_notebook("report", made.folder / "report.ipynb", **{**parameters, **found})
    return page([executed], made.folder / "report.html", f"Report: {made.dataset}")
