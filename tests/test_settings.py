"""Who wins: recipe < YAML settings < YAML recipes < what is given; and where files and pictures are looked for."""

import pytest
import yaml

from reprog_kit import settings as module
from reprog_kit.parameters import InputError
from reprog_kit.recipes import OWN, RECIPES
from reprog_kit.settings import EvaluateSettings, TrainSettings, data_root, find_params, in_project


def test_precedence_grows_from_recipe_to_what_is_given(benchmark_file):
    own, entry = {"image_lr": 0.01, "text_lr": 0.02, "padding": 3}, {"released": {"text_lr": 0.03, "warmup_steps": 7}}
    path = benchmark_file(settings=own, recipes=entry)
    found = TrainSettings.build(dataset=path, recipe="released", warmup_steps=9)
    assert found.init_std == 1.0  # the recipe
    assert (found.image_lr, found.padding) == (0.01, 3)  # over it the YAML's settings
    assert found.text_lr == 0.03  # over them the YAML's entry for the recipe
    assert found.warmup_steps == 9  # over all what is given
    other = TrainSettings.build(dataset=path)
    assert (other.recipe, other.text_lr, other.warmup_steps, other.init_std) == ("corrected", 0.02, 20, 0.01)


def test_the_yaml_may_choose_the_recipe_and_what_is_given_overrules_it(benchmark_file):
    path = benchmark_file(settings={"recipe": "released"})
    assert TrainSettings.build(dataset=path).focal_gamma == 4.0
    assert TrainSettings.build(dataset=path, recipe="corrected").focal_gamma == 0.0


def test_none_leaves_the_benchmarks_value(benchmark_file):
    path = benchmark_file(settings={"padding": 3})
    assert TrainSettings.build(dataset=path, padding=None).padding == 3
    assert TrainSettings.build(dataset=path, padding=0).padding == 0


def test_a_switch_of_a_recipe_can_be_set_alone(benchmark_file):
    found = TrainSettings.build(dataset=benchmark_file(), recipe="released", twins="positives")
    assert (found.twins, found.focal_gamma, found.keep) == ("positives", 4.0, "last")


def test_the_released_recipe_is_what_the_authors_code_does(benchmark_file):
    found = TrainSettings.build(dataset=benchmark_file(), recipe="released")
    # IBM/reprogrammer, commit f107472.
    expected = {
        "loss": "symmetric",
        "twins": "negatives",
        "focal_alpha": 0.8,
        "focal_gamma": 4.0,
        "init_std": 1.0,
        "image_lr": 5e-3,
        "image_weight_decay": 0.1,
        "text_lr": 5e-4,
        "text_weight_decay": 0.1,
        "warmup_steps": 500,
        "epochs": 25,
        "batch_size": 128,
        "seed": 1,
        "keep": "last",
        "renormalise": False,
        "program": "both",
    }
    assert {name: getattr(found, name) for name in expected} == expected


def test_both_recipes_set_the_same_switches():
    assert RECIPES["released"].keys() == RECIPES["corrected"].keys() == {"", *OWN} - {"zero_shot"}
    for recipe in RECIPES.values():
        for method, switches in recipe.items():
            assert switches.keys() <= TrainSettings.model_fields.keys()
            assert not method or switches.keys() <= OWN[method]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"metod": "reprogrammer"}, ["unknown parameter 'metod'. Did you mean 'method'?"]),
        ({"method": "reprogramer"}, ["method = 'reprogramer' is refused", "Did you mean 'reprogrammer'?"]),
        ({"recipe": "corected"}, ["recipe = 'corected' is refused", "Did you mean 'corrected'?"]),
        ({"padding": -1}, ["padding = -1 is refused", "greater than or equal to 0"]),
        ({"image_size": 0}, ["image_size = 0 is refused"]),
        ({"batch_size": 1}, ["batch_size = 1 is refused", "greater than or equal to 2"]),
        ({"epochs": True}, ["epochs = True is refused"]),
        ({"image_lr": 0}, ["image_lr = 0 is refused", "greater than 0"]),
        ({"image_lr": float("nan")}, ["image_lr = nan is refused"]),
        ({"limit": 0}, ["limit = 0 is refused"]),
    ],
)
def test_refusals(benchmark_file, given, words):
    with pytest.raises(InputError) as caught:
        TrainSettings.build(dataset=benchmark_file(), **given)
    for word in words:
        assert word in str(caught.value)


def test_a_rate_that_yaml_reads_as_a_string_is_a_float(benchmark_file, tmp_path):
    assert TrainSettings.build(dataset=benchmark_file(), image_lr="1e-3").image_lr == 0.001
    path = benchmark_file()
    (tmp_path / "colours.yaml").write_text((tmp_path / "colours.yaml").read_text() + "\nsettings: {text_lr: 1e-3}\n")
    assert yaml.safe_load("1e-3") == "1e-3"
    assert TrainSettings.build(dataset=path).text_lr == 0.001


def test_an_unknown_key_in_the_yamls_settings_is_refused(benchmark_file):
    with pytest.raises(InputError, match=r"unknown parameter 'epocs'\. Did you mean 'epochs'\?"):
        TrainSettings.build(dataset=benchmark_file(settings={"epocs": 3}))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"alpha": 1.01}, ["alpha = 1.01 is refused", "less than or equal to 1"]),
        ({"alpha": -0.1}, ["alpha = -0.1 is refused", "greater than or equal to 0"]),
        ({"score": "mspp"}, ["score = 'mspp' is refused", "Did you mean 'msp'?"]),
        ({"resamples": -1}, ["resamples = -1 is refused"]),
    ],
)
def test_evaluation_refusals(given, words):
    with pytest.raises(InputError) as caught:
        EvaluateSettings.build(**given)
    for word in words:
        assert word in str(caught.value)


def test_the_ends_of_alpha_are_allowed():
    assert (EvaluateSettings.build(alpha=0).alpha, EvaluateSettings.build(alpha=1).alpha) == (0, 1)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder with two benchmarks and a parameters file of another kind; the kernel starts in notebooks/."""
    for name in ("params", "notebooks"):
        (tmp_path / name).mkdir()
    (tmp_path / "params" / "birds.yaml").write_text("id: {}\n")
    (tmp_path / "params" / "fish.yaml").write_text("id: {}\n")
    (tmp_path / "params" / "recipe.yaml").write_text("packs: []\n")
    monkeypatch.chdir(tmp_path / "notebooks")
    return tmp_path


def test_a_benchmark_is_found_by_name_from_the_notebooks_folder(project):
    assert find_params("birds") == project / "params" / "birds.yaml"


def test_an_unknown_benchmark_is_refused_with_the_known_ones(project):
    with pytest.raises(InputError, match=r"unknown dataset 'brids'\. Did you mean 'birds'\?.*: birds, fish;"):
        find_params("brids")
    with pytest.raises(InputError, match="unknown dataset 'recipe'"):
        find_params("recipe")
    with pytest.raises(InputError, match=r"there is no file .*none\.yaml"):
        find_params("none.yaml")


def test_runs_and_data_lie_in_the_project_wherever_the_kernel_started(project, tmp_path, monkeypatch):
    assert in_project("runs") == project / "runs"
    assert in_project(tmp_path / "else") == tmp_path / "else"
    assert data_root(None) == project / "data"
    monkeypatch.setenv("REPROG_DATA", "/elsewhere")
    assert str(data_root(None)) == "/elsewhere"
    assert str(data_root("/given")) == "/given"


@pytest.mark.parametrize("content", ["a: [1, 2", "just words", ""])
def test_a_yaml_that_is_no_mapping_is_refused_by_name(tmp_path, content):
    path = tmp_path / "own.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=r"own\.yaml"):
        TrainSettings.build(dataset=str(path))


def test_a_broken_yaml_beside_it_does_not_hide_a_benchmark(project):
    (project / "params" / "broken.yaml").write_text("a: [1, 2")
    assert module.find_params("birds").name == "birds.yaml"


# -- methods and seeds


@pytest.mark.parametrize("method", [m for m in OWN if m != "reprogrammer"])
def test_a_setting_that_the_method_has_no_use_for_is_refused_with_its_own(method):
    with pytest.raises(InputError, match=rf"padding = 8 is refused: method = '{method}' has no use for it") as caught:
        TrainSettings.build(method=method, padding=8)
    for own in OWN[method]:
        assert own in str(caught.value)


def test_a_setting_of_the_yaml_that_the_method_has_no_use_for_is_no_mistake():
    assert TrainSettings.build(dataset="demo", method="coop").method == "coop"  # the demo sets a padding


def test_wise_ft_is_trained_as_fine_tuning():
    assert TrainSettings.build(method="wise_ft") == TrainSettings.build(method="fine_tune")


def test_a_method_has_its_own_recipe_and_its_own_lines_in_the_yaml(benchmark_file):
    path = benchmark_file(
        settings={"epochs": 7, "lr": 0.5},
        methods={"coop": {"epochs": 9}},
        recipes={"released": {"batch_size": 16}},
    )
    coop, tuned = (TrainSettings.build(dataset=path, method=method) for method in ("coop", "fine_tune"))
    assert (coop.epochs, coop.lr, coop.batch_size) == (9, 0.5, 128)
    assert (tuned.epochs, tuned.lr, tuned.weight_decay) == (7, 0.5, 0.1)
    released = TrainSettings.build(dataset=path, method="coop", recipe="released")
    assert (released.epochs, released.batch_size) == (7, 16)  # the line of the method was found with the default recipe
    assert TrainSettings.build(dataset=path, method="coop", epochs=2).epochs == 2


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("linear_probe", {"probe": "adam", "lr": 0.01, "schedule": "steps", "keep": "last", "epochs": 25}),
        ("fine_tune", {"lr": 3e-5, "weight_decay": 0.1, "schedule": "steps", "epochs": 25}),
        ("lp_ft", {"lr": 3e-5, "weight_decay": 0.1}),
        ("l2_sp", {"lr": 3e-5, "l2_sp": 0.01}),
        ("coop", {"lr": 2e-3, "weight_decay": 5e-4, "contexts": 16, "epochs": 50}),
        ("reprogrammer", {"alpha": 0.4, "select_on": "test", "score_precision": "fp16", "scored_over": "all"}),
    ],
)
def test_released_is_what_the_reference_says_of_each_method(benchmark_file, method, expected):
    found = TrainSettings.build(dataset=benchmark_file(), method=method, recipe="released")
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize("given", [[0, 1, 2], (0, 1, 2), "0,1,2", "[0, 1, 2]"])
def test_seeds_are_a_run_each(given):
    settings = TrainSettings.build(seeds=given)
    assert settings.seeds == (0, 1, 2)
    assert [(each.seed, each.seeds) for each in settings.each_seed()] == [(0, None), (1, None), (2, None)]
    assert [each.seed for each in TrainSettings.build(seed=5).each_seed()] == [5]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seeds": [0, 1], "seed": 3}, "seed and seeds are both given"),
        ({"seeds": "a,b"}, r"seeds = 'a,b' is refused"),
        ({"seeds": ""}, r"seeds = '' is refused: give the seeds as a list"),
    ],
)
def test_seeds_that_mean_nothing_are_refused(given, words):
    with pytest.raises(InputError, match=words):
        TrainSettings.build(**given)


def test_another_model_does_not_take_the_weights_of_the_yaml_s(benchmark_file):
    yaml = benchmark_file(settings={"model": "ViT-B-32", "pretrained": "openai"})
    assert TrainSettings.build(dataset=yaml).pretrained == "openai"
    assert TrainSettings.build(dataset=yaml, model="ViT-B-32").pretrained == "openai"
    assert TrainSettings.build(dataset=yaml, model="mini").pretrained is None
    assert TrainSettings.build(dataset=yaml, model="RN50", pretrained="yfcc15m").pretrained == "yfcc15m"
