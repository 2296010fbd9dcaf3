"""What stands twice stays the same: bounds, versions, commands."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement

import reprog_kit
from reprog_kit.settings import project_root

ROOT = project_root()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]


def test_environment_yml_has_the_bounds_of_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert sorted(pip) == sorted(DECLARED)


def test_every_dependency_of_environment_yml_is_explained():
    lines = [
        line for line in (ROOT / "environment.yml").read_text().splitlines() if ">=" in line and "python>" not in line
    ]
    assert len(lines) == len(DECLARED) and all("  # " in line for line in lines)


@pytest.mark.parametrize("requirement", DECLARED)
def test_constraints_pin_every_dependency_within_its_bounds(requirement):
    wanted = Requirement(requirement)
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines()]
    versions = [
        next(iter(p.specifier)).version for p in pins if p.name.lower() == wanted.name.lower().replace("_", "-")
    ]
    assert versions and all(wanted.specifier.contains(version) for version in versions)


def test_constraints_hold_no_addresses():
    assert not re.search(r"https?:|@|--", (ROOT / "constraints.txt").read_text())


def test_version_is_the_same_everywhere():
    assert reprog_kit.__version__ == PROJECT["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_readme_names_only_make_targets_and_notebooks_that_exist():
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^(?:`|\$ )?make (\w+)", readme, re.M)) | set(re.findall(r"`make (\w+)`", readme))
    assert {"demo", "test"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)
    notebooks = set(re.findall(r"notebooks/(\w+)\.ipynb", readme))
    assert {"train", "evaluate"} <= notebooks
    assert all((ROOT / "notebooks" / f"{name}.ipynb").is_file() for name in notebooks)
