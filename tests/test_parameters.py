"""The parameters cell: which names count, and what a person reads about a wrong one."""

import pytest
from pydantic import Field

from reprog_kit.parameters import InputError, NotebookSettings, nearest, notebook_parameters


class Example(NotebookSettings):
    epochs: int = Field(3, ge=1, description="passes over the pictures")
    rate: float = 0.1
    fast: bool = False
    name: str = "x"


def notebook(*cells: str) -> dict:
    """Run cells as IPython does and return its namespace."""
    namespace: dict = {"In": [""]}
    for cell in cells:
        namespace["In"].append(cell)
        exec(cell, namespace)
    return namespace


def test_the_parameters_cell_counts_and_later_cells_do_not():
    ran = notebook("import math", "# parameters\nepochs = 5  # passes\nrate = 0.5", "epochs_seen = 7\nname = 'later'")
    assert notebook_parameters(ran) == {"epochs": 5, "rate": 0.5}


def test_papermills_cell_is_added_and_wins():
    ran = notebook("# parameters\nepochs = 5", "# Parameters\nepochs = 9\nrate = 0.25\n", "other = 1")
    assert notebook_parameters(ran) == {"epochs": 9, "rate": 0.25}


def test_an_unknown_name_of_papermill_is_passed_on_so_that_it_can_be_refused():
    ran = notebook("# parameters\nepochs = 5", "# Parameters\nepohcs = 9\n")
    with pytest.raises(InputError, match=r"unknown parameter 'epohcs'\. Did you mean 'epochs'\?"):
        Example.from_notebook(ran)


def test_a_cell_that_ran_again_counts_as_it_ran_last():
    ran = notebook("# parameters\nepochs = 5\nrate = 0.5", "# parameters\nepochs = 6")
    assert notebook_parameters(ran) == {"epochs": 6}


def test_a_later_cell_that_changes_a_parameter_changes_its_value_but_adds_no_name():
    ran = notebook("# parameters\nepochs = 5", "epochs = 8\nrate = 3.0")
    assert notebook_parameters(ran) == {"epochs": 8}


def test_annotated_literals_count():
    assert notebook_parameters(notebook("# parameters\nepochs: int = 4")) == {"epochs": 4}


def test_a_deleted_name_is_left_out():
    assert notebook_parameters(notebook("# parameters\nepochs = 5\nrate = 1.0", "del rate")) == {"epochs": 5}


def test_without_cells_the_plain_public_values_count():
    assert notebook_parameters({"epochs": 2, "_hidden": 1, "Example": Example, "rate": None}) == {"epochs": 2}


def test_none_means_not_set():
    assert Example.build(epochs=None, rate=None) == Example()


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Example().epochs = 4


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epohcs": 3}, ["unknown parameter 'epohcs'", "Did you mean 'epochs'?", "Known: epochs, rate, fast, name"]),
        ({"zzzz": 3}, ["unknown parameter 'zzzz'. Known: epochs"]),
        ({"epochs": "many"}, ["epochs = 'many' is refused", "integer", "passes over the pictures"]),
        ({"epochs": 2.5}, ["epochs = 2.5 is refused", "integer"]),
        ({"epochs": 0}, ["epochs = 0 is refused", "greater than or equal to 1"]),
        ({"epochs": True}, ["epochs = True is refused: true/false is no value for it"]),
        ({"rate": False}, ["rate = False is refused: true/false is no value for it"]),
        ({"name": 3}, ["name = 3 is refused", "string"]),
        ({"fast": "perhaps"}, ["fast = 'perhaps' is refused"]),
        ({"epochs": 0, "rate": "x"}, ["epochs = 0 is refused", "rate = 'x' is refused"]),
    ],
)
def test_refusals_name_the_value_and_what_is_allowed(given, words):
    with pytest.raises(InputError) as caught:
        Example.build(**given)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(("given", "meant"), [("1e-3", 0.001), (1, 1.0), ("0.5", 0.5)])
def test_a_number_as_papermill_writes_it_is_a_float(given, meant):
    found = Example.build(rate=given).rate
    assert found == meant
    assert isinstance(found, float)


def test_ipython_shows_the_message_without_the_stack():
    shown = InputError("padding = 99 is refused")._render_traceback_()
    assert len(shown) == 1
    assert shown[0].endswith("InputError\x1b[0m: padding = 99 is refused")


def test_nearest_is_silent_where_nothing_is_near():
    assert nearest("cifar", ["cifar10", "demo"]) == " Did you mean 'cifar10'?"
    assert nearest("qqq", ["cifar10", "demo"]) == ""
    assert nearest("x", []) == ""
