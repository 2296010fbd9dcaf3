"""JupyterLab in a real Chromium: Run All draws the figures, a slider moves its own, the pointer finds pictures.

Screenshots go to $SHOT_DIR, if that is set.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

from reprog_kit.settings import project_root

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
TOKEN = "browser-test"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
QUICK = {"limit": 60, "epochs": 2, "batch_size": 20, "warmup_steps": 1}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on PATH or in $CHROMIUM (Debian: apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of notebooks and params, so that JupyterLab's autosave leaves the originals alone."""
    root = tmp_path_factory.mktemp("project")
    for folder in ("notebooks", "params"):
        shutil.copytree(project_root() / folder, root / folder)
    given = {
        "train": QUICK,
        "padding_ablation": {
            **QUICK,
            "limit": 30,
            "epochs": 1,
            "batch_size": 10,
            "paddings": [0, 4, 16],
            "runs": "'runs-paddings'",
        },
        "explore": {"limit": 60, "alpha": 0.2},
    }
    for name, values in given.items():
        path = root / "notebooks" / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        for key, value in values.items():
            notebook.cells[1].source = re.sub(rf"({key}: \w+) = None", rf"\1 = {value}", notebook.cells[1].source)
        nbformat.write(notebook, path)
    return root


@pytest.fixture(scope="module")
def lab(project, tmp_path_factory):
    """The address of a JupyterLab server on loopback with its own empty configuration."""
    state = tmp_path_factory.mktemp("lab")
    quiet = {
        "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    }
    for plugin, body in quiet.items():
        file = state / "settings" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(body))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with _server(project, state, port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _server(root: Path, state: Path, port: int):
    folders = {"CONFIG": "config", "DATA": "data", "RUNTIME": "runtime"}
    env = os.environ | {f"JUPYTER_{key}_DIR": str(state / name) for key, name in folders.items()}
    env |= {"JUPYTERLAB_SETTINGS_DIR": str(state / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(state / "spaces")}
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={port}", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={root}"]
    command += ["--LabApp.news_url=None", "--LabApp.expose_app_in_browser=True"]
    log = (state / "server.log").open("w")
    process = subprocess.Popen(
        command, env=env | {"IPYTHONDIR": str(state / "ipython")}, stdout=log, stderr=log, start_new_session=True
    )
    try:
        for _ in range(480):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status?token={TOKEN}", timeout=2).read()
                break
            except OSError:
                assert process.poll() is None, (state / "server.log").read_text()
                time.sleep(0.25)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
        log.close()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)


def run_all(browser, lab: str, notebook: str):
    """Open a notebook, run every cell, wait until the last is done; return the page and the errors it shows."""
    page = browser.new_page(viewport={"width": 1366, "height": 900})
    page.goto(f"{lab}/doc/tree/notebooks/{notebook}.ipynb?token={TOKEN}&reset", wait_until="domcontentloaded")
    return page, run_cells(page)


def run_cells(page) -> list[str]:
    """Run every cell of an opened notebook, wait until the last is done; return the errors it shows."""
    page.wait_for_function("window.jupyterapp !== undefined", timeout=120_000)
    page.evaluate("window.jupyterapp.restored.then(() => true)")
    page.wait_for_function(
        """() => { const k = window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel;
        return k && k.connectionStatus === 'connected' && k.status === 'idle'; }""",
        timeout=120_000,
    )
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    page.wait_for_function(
        r"""() => { const p = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(e => e.textContent);
        return p.length > 0 && p.every(t => /\[\d+\]:/.test(t)); }""",
        timeout=240_000,
    )
    page.wait_for_timeout(1500)
    return page.locator(".jp-mod-error, [data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts()


def _screenshots(page, name: str) -> None:
    if "SHOT_DIR" in os.environ:
        for number, cell in enumerate(page.locator(".jp-CodeCell").all()):
            cell.scroll_into_view_if_needed()
            page.wait_for_timeout(300)
            page.screenshot(path=Path(os.environ["SHOT_DIR"]) / f"{name}-{number}.png")


def test_run_all_draws_every_figure(browser, lab, project):
    page, errors = run_all(browser, lab, "train")
    _screenshots(page, "train")
    assert errors == []
    assert (
        page.locator(".jp-OutputArea img[src^='data:image/png']").count() >= 12
    )  # the doctor's samples, a strip a set
    assert page.get_by_text("What to do, in order:", exact=True).count() == 1
    assert page.locator(".js-plotly-plot .main-svg").count() >= 3
    assert page.locator(".jp-OutputArea .widget-hprogress, .jp-OutputArea .jupyter-widgets").count() > 0
    assert len(list((project / "runs").glob("*/program.safetensors"))) == 1
    page.close()

    page, errors = run_all(browser, lab, "evaluate")
    _screenshots(page, "evaluate")
    assert errors == []
    assert page.locator(".js-plotly-plot .main-svg").count() >= 4
    assert page.get_by_text("residual (epochs 2").count() >= 1
    page.close()

    page, errors = run_all(browser, lab, "residual_sweep")
    _screenshots(page, "residual_sweep")
    assert errors == []
    assert page.locator(".js-plotly-plot .main-svg").count() >= 5
    _a_key_on_the_slider_changes_the_numbers(page)
    page.close()

    page, errors = run_all(browser, lab, "report")
    _screenshots(page, "report")
    assert errors == []
    assert page.locator(".js-plotly-plot .main-svg").count() >= 3
    assert page.get_by_text("Nothing was published").count() >= 1
    page.close()

    page, errors = run_all(browser, lab, "umap")
    assert errors == []
    picture = page.locator(".jp-OutputArea .widget-image")
    before = picture.get_attribute("src")
    panels = page.locator(".jp-OutputArea .js-plotly-plot .subplot")
    assert panels.count() == 3
    picture.scroll_into_view_if_needed()
    points = page.locator(".js-plotly-plot .subplot").nth(2).locator(".scatterlayer .points path.point")
    points.nth(points.count() // 2).scroll_into_view_if_needed()
    box = points.nth(points.count() // 2).bounding_box()
    page.mouse.move(box["x"] - 40, box["y"] - 40)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=8)
    page.wait_for_function(
        "before => document.querySelector('.widget-image').src !== before", arg=before, timeout=30_000
    )
    page.locator(".widget-html-content").get_by_text(re.compile("residual: .*MSP 0")).wait_for(timeout=30_000)
    _screenshots(page, "umap")
    page.close()


def test_the_padding_slider_follows_the_keyboard(browser, lab):
    page, errors = run_all(browser, lab, "padding_ablation")
    _screenshots(page, "padding")
    assert errors == []
    assert page.locator(".js-plotly-plot .main-svg").count() >= 1
    assert page.get_by_text("4 px, as trained.", exact=True).count() == 1
    pictures = page.locator(".jupyter-widgets img")
    before = [picture.get_attribute("src") for picture in pictures.all()]
    handle = page.locator(".jupyter-widgets .noUi-handle").first
    handle.focus()
    for _ in range(7):  # to 11 px: nearest is 16 px, whose border is cut
        handle.press("ArrowRight")
    page.get_by_text("11 px: the nearest run has 16 px, shown are its outer 11.", exact=True).wait_for(timeout=20_000)
    after = [picture.get_attribute("src") for picture in pictures.all()]
    assert len(before) == len(after) == 3
    assert before[0] == after[0] and before[1] != after[1] and before[2] != after[2]
    _screenshots(page, "padding-moved")
    page.close()


def _a_key_on_the_slider_changes_the_numbers(page) -> None:
    handle = page.locator(".noUi-handle").first
    handle.scroll_into_view_if_needed()
    numbers, title = page.locator(".barlayer .bartext"), page.locator(".widget-vbox .gtitle, .jupyter-widgets .gtitle")
    before, where = numbers.all_text_contents(), title.first.text_content()  # they are SVG
    assert len(before) == 10  # the test set, five shift sets, four OOD sets
    handle.focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight" if "alpha 1:" not in where else "ArrowLeft")
    page.wait_for_function("old => document.querySelector('.jupyter-widgets .gtitle').textContent !== old", arg=where)
    page.wait_for_timeout(1000)
    if "SHOT_DIR" in os.environ:
        page.screenshot(path=Path(os.environ["SHOT_DIR"]) / "residual_sweep-moved.png")
    assert page.locator(".barlayer .bartext").all_text_contents() != before


def test_the_workbench_follows_every_hand(browser, lab, tmp_path):
    page, errors = run_all(browser, lab, "explore")
    assert errors == []
    _alpha_moves_every_figure(page)
    _padding_moves_the_preview(page)
    _an_uploaded_picture_is_inspected(page, tmp_path)
    _train_goes_on_over_a_reload_and_stops(page)
    for theme, width in (("JupyterLab Light", 1366), ("JupyterLab Dark", 1800)):
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", theme)
        page.wait_for_function(f"({_WIDTHS})().every(([all, drawn]) => Math.abs(all - drawn) < 2)")
        page.wait_for_timeout(500)
        _screenshots(page, f"explore-{width}")
    page.close()


# The width of each figure's place and of what is drawn in it.
_WIDTHS = """() => [...document.querySelectorAll('[data-at]')].map(
    e => [e, e.querySelector('.main-svg')].map(part => part.getBoundingClientRect().width))"""


def _alpha_moves_every_figure(page) -> None:
    page.wait_for_function("document.querySelectorAll('[data-moves=true][data-at]').length === 3", timeout=60_000)
    handle = page.locator(".widget-slider", has_text="alpha").locator(".noUi-handle")
    handle.scroll_into_view_if_needed()
    drawn = """() => [...document.querySelectorAll('[data-moves=true]')].map(
        e => [...e.querySelectorAll('.scatterlayer')].map(s => s.innerHTML).join())"""
    before = page.evaluate(drawn)
    page.get_by_text(re.compile("^alpha 0.2 – residual")).wait_for()
    handle.focus()
    for _ in range(20):
        handle.press("ArrowRight")
    page.get_by_text(re.compile("^alpha 0.4 – residual.*ID accuracy")).wait_for(timeout=20_000)
    page.wait_for_function("[...document.querySelectorAll('[data-moves=true]')].every(e => e.dataset.at === '40')")
    after = page.evaluate(drawn)
    assert len(before) == 3 and all(old != new for old, new in zip(before, after))


def _padding_moves_the_preview(page) -> None:
    handle = page.locator(".widget-slider", has_text="padding, px").locator(".noUi-handle")
    handle.scroll_into_view_if_needed()
    pictures = page.locator(".jupyter-widgets img")
    before = [picture.get_attribute("src") for picture in pictures.all()]
    page.get_by_text("4 px, as trained.", exact=True).wait_for()
    handle.focus()
    handle.press("ArrowLeft")
    page.get_by_text("3 px: the nearest run has 4 px, shown are its outer 3.", exact=True).wait_for(timeout=20_000)
    after = [picture.get_attribute("src") for picture in pictures.all()]
    assert before[0] == after[0] and before[1] != after[1] and before[2] != after[2]


def _an_uploaded_picture_is_inspected(page, folder: Path) -> None:
    from PIL import Image

    Image.new("RGB", (90, 60), (200, 30, 30)).save(folder / "red.png")
    (folder / "notes.png").write_text("no picture")
    shown = page.get_by_text(re.compile("^printed, picture 0 of"))
    shown.wait_for(timeout=60_000)
    _upload(page, folder / "notes.png")
    page.get_by_text(re.compile(r"notes\.png \(10 bytes\) is no picture that can be read")).wait_for(timeout=20_000)
    assert shown.count() == 1
    _upload(page, folder / "red.png")
    page.get_by_text("your picture red.png").wait_for(timeout=60_000)
    assert shown.count() == 0


def _upload(page, file: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="upload a picture").click()
    chooser.value.set_files(file)


def _train_goes_on_over_a_reload_and_stops(page) -> None:
    status = page.locator(".widget-html [role=status]")
    page.locator(".widget-dropdown", has_text="budget").locator("select").select_option("the benchmark's epochs")
    page.get_by_role("button", name="Train").click()
    page.wait_for_function(
        "/Epoch [0-9]+ of 20/.test(document.querySelector('[role=status]').textContent)", timeout=60_000
    )
    assert page.get_by_role("button", name="Train").is_disabled()
    page.reload(wait_until="domcontentloaded")
    assert run_cells(page) == []
    page.wait_for_function(
        "!/^Train /.test(document.querySelector('[role=status]').textContent)"
    )  # no offer: it is there
    if page.get_by_role("button", name="Stop").is_enabled():
        page.get_by_role("button", name="Stop").click()
    page.wait_for_function(
        "/In the comparison: /.test(document.querySelector('[role=status]').textContent)", timeout=90_000
    )
    assert "3 px of border" in status.inner_text() and page.get_by_role("button", name="Train").is_enabled()
    legend = "[...document.querySelectorAll('[data-moves=true] .legendtext')].map(e => e.textContent)"
    assert any("padding 3" in name for name in page.evaluate(legend))
