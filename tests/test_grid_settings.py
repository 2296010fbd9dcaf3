"""What makes a grid: which runs lists of methods, seeds and paddings come to, and what is refused."""

import typing

import pytest

from reprog_kit.grid_settings import METHODS, GridSettings, Method, asks_for_a_grid
from reprog_kit.parameters import InputError
from reprog_kit.settings import TrainSettings


def runs(whole: bool, **given) -> list[tuple]:
    """Return method, seed and padding of every run that parameters ask for."""
    settings, rest = GridSettings.sort("demo", whole, given)
    return [(each["method"], each["seed"], each.get("padding")) for each in settings.each("demo", rest)]


def test_the_methods_are_those_of_a_run():
    assert set(METHODS) == set(typing.get_args(Method))
    assert set(METHODS) == set(typing.get_args(TrainSettings.model_fields["method"].annotation))


def test_the_whole_grid_is_every_method_with_three_seeds_and_zero_shot_once():
    found = runs(True)
    assert len(found) == 1 + 6 * 3 == len(set(found))
    assert [seed for method, seed, _ in found if method == "zero_shot"] == [1]
    assert found[:7] == [(method, 1, None) for method in METHODS]  # a seed is complete before the next begins


def test_paddings_multiply_only_the_reprogrammer():
    found = runs(False, methods="reprogrammer,fine_tune", seeds="1,2", paddings="0,4,16")
    assert found == [
        (method, seed, width)
        for seed in (1, 2)
        for method, widths in (("reprogrammer", (0, 4, 16)), ("fine_tune", (None,)))
        for width in widths
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"methods": "all"}, [(method, 1, None) for method in METHODS]),
        ({"paddings": [0, 8]}, [("reprogrammer", 1, 0), ("reprogrammer", 1, 8)]),
        ({"method": "fine_tune", "seeds": "3,5", "workers": "1"}, [("fine_tune", 3, None), ("fine_tune", 5, None)]),
        ({"methods": ["coop"], "seed": 4}, [("coop", 4, None)]),
        ({"methods": "reprogrammer", "padding": 8}, [("reprogrammer", 1, 8)]),
        ({"methods": "wise_ft,fine_tune,residual"}, [("fine_tune", 1, None), ("reprogrammer", 1, None)]),
    ],
)
def test_what_no_list_names_is_as_in_a_single_run(given, expected):
    assert runs(False, **given) == expected


def test_one_value_narrows_the_whole_grid():
    assert runs(True, method="fine_tune") == [("fine_tune", seed, None) for seed in (1, 2, 3)]
    assert runs(True, seed=7, methods="zero_shot,coop") == [("zero_shot", 7, None), ("coop", 7, None)]


def test_a_benchmark_s_own_seed_is_that_of_a_single_run(benchmark_file):
    path = benchmark_file(settings={"seed": 9, "method": "coop"})
    assert GridSettings.sort(path, False, {"workers": 1})[0].seeds == (9,)
    assert GridSettings.sort(path, False, {"workers": 1})[0].methods == ("coop",)


def test_a_setting_goes_to_the_methods_that_have_a_use_for_it():
    settings, rest = GridSettings.sort(
        "demo", False, {"methods": "all", "lr": "1e-3", "limit": "60", "program": "image"}
    )
    found = {each["method"]: each for each in settings.each("demo", rest)}
    assert {name for name, each in found.items() if "lr" in each} == {
        "linear_probe",
        "fine_tune",
        "lp_ft",
        "l2_sp",
        "coop",
    }
    assert {name for name, each in found.items() if "program" in each} == {"reprogrammer"}
    assert all(each["limit"] == "60" for each in found.values())
    assert settings.useless(rest) == []


def test_a_setting_that_no_method_of_the_grid_has_a_use_for_is_named():
    settings, rest = GridSettings.sort(
        "demo", False, {"methods": "coop", "program": "image", "paddings": "0,4", "lr": 1}
    )
    assert settings.useless(rest) == ["paddings", "program"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"methds": "all"}, "unknown parameter 'methds'. Did you mean 'methods'?"),
        ({"epoch": 3}, "unknown parameter 'epoch'. Did you mean 'epochs'?"),
        ({"methods": ()}, "'' is no method"),
        ({"methods": "coop,reprogramer"}, "'reprogramer' is no method. Did you mean 'reprogrammer'?"),
        ({"method": "coop", "methods": "coop"}, "method and methods are both given"),
        ({"padding": 4, "paddings": "4"}, "padding and paddings are both given"),
        ({"seeds": "1,1"}, "1 is there twice"),
        ({"seeds": "1,x"}, "seeds = '1,x' is refused"),
        ({"paddings": "-4"}, "greater than or equal to 0"),
        ({"engine": "slurm"}, "engine = 'slurm' is refused"),
        ({"workers": 0}, "workers = 0 is refused"),
    ],
)
def test_refuses_with_what_is_right(given, said):
    with pytest.raises(InputError) as caught:
        GridSettings.sort("demo", False, given)
    assert said in str(caught.value)


def test_seeds_alone_are_one_page_of_one_method():
    assert not asks_for_a_grid({"method": "coop", "seeds": "1,2", "padding": "4"})
    assert all(asks_for_a_grid({name: "1"}) for name in GridSettings.model_fields if name != "seeds")
