"""Lists that a YAML names: from files, from open_clip and timm, as a map; and captions of one's own."""

import pytest

from reprog_kit.benchmarks import load_benchmark
from reprog_kit.class_names import name_list, resolve
from reprog_kit.parameters import InputError


def test_class_names_are_read_from_a_file_beside_the_yaml(tmp_path):
    (tmp_path / "names.txt").write_text("tench\n\n great white shark \ncock\n", encoding="utf-8")
    assert resolve({"classes": "names.txt"}, tmp_path) == {"classes": ["tench", " great white shark", "cock"]}


@pytest.mark.parametrize("how", ["file", "mapping"])
def test_folder_names_and_class_names_stand_side_by_side(how, tmp_path):
    (tmp_path / "names.txt").write_text("n01\ttench\nn02\tgold\tfish\n")
    given = "names.txt" if how == "file" else {"n01": "tench", "n02": "gold\tfish"}
    assert resolve({"classes": given}, tmp_path) == {"class_ids": ["n01", "n02"], "classes": ["tench", "gold\tfish"]}


def test_a_file_with_a_tab_in_some_lines_alone_is_refused(tmp_path):
    (tmp_path / "names.txt").write_text("n01\ttench\ncock\n")
    with pytest.raises(InputError, match="every line of the file needs a tab"):
        resolve({"classes": "names.txt"}, tmp_path)


def test_a_map_beside_class_ids_is_refused(tmp_path):
    with pytest.raises(InputError, match="leave class_ids out"):
        resolve({"classes": {"n01": "tench"}, "class_ids": ["n01"]}, tmp_path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing.txt", "there is no file"),
        ("open_clip:IMAGENET_CLASNAMES", "Did you mean 'IMAGENET_CLASSNAMES'"),
        ("timm:imagenet-9", "no label set"),
    ],
)
def test_a_list_that_is_not_there_is_refused_with_what_is(name, said, tmp_path):
    with pytest.raises(InputError, match=said):
        name_list("classes", name, tmp_path)


def test_imagenets_names_follow_its_wordnet_ids(tmp_path):
    ids = name_list("class_ids", "timm:imagenet-1k", tmp_path)
    names = name_list("classes", "open_clip:IMAGENET_CLASSNAMES", tmp_path)
    assert (len(ids), ids) == (1000, sorted(ids))
    known = {
        "n01440764": "tench",
        "n01443537": "goldfish",
        "n02099601": "Golden Retriever",
        "n15075141": "toilet paper",
    }
    assert {k: names[ids.index(k)].lower() for k in known} == {k: v.lower() for k, v in known.items()}


def test_a_name_that_stands_twice_is_settled_by_its_id(tmp_path):
    given = {
        "classes": "open_clip:IMAGENET_CLASSNAMES",
        "class_ids": "timm:imagenet-1k",
        "rename": {"n04008634": "projectile", "n04355933": "sunglass"},
    }
    found = resolve(given, tmp_path)
    assert len(set(found["classes"])) == 1000
    assert "rename" not in found
    assert found["classes"][found["class_ids"].index("n03773504")] == "missile"
    assert found["classes"][found["class_ids"].index("n04008634")] == "projectile"


def test_a_class_without_an_id_is_renamed_by_its_name(tmp_path):
    assert resolve({"classes": ["a", "b"], "rename": {"b": "c"}}, tmp_path)["classes"] == ["a", "c"]
    with pytest.raises(InputError, match="no class has the id or the name 'x'"):
        resolve({"classes": ["a", "b"], "rename": {"x": "c"}}, tmp_path)


def test_templates_of_open_clip_are_sentences_with_a_gap(tmp_path):
    found = resolve({"templates": "open_clip:SIMPLE_IMAGENET_TEMPLATES"}, tmp_path)["templates"]
    assert len(found) == 7
    assert all(sentence.count("{}") == 1 for sentence in found)
    assert "a origami {}." in found


def test_captions_of_ones_own_stand_in_the_place_of_the_sentence(benchmark_file):
    found = load_benchmark(benchmark_file(captions={"red": "something red as a rose"}, templates=["the {}"]))
    assert found.captions(("blue", "red")) == ["a photo of a blue", "something red as a rose"]
    assert found.captions(("blue", "red"), "the {}") == ["the blue", "the red"]


def test_a_caption_for_a_class_that_is_none_is_refused(benchmark_file):
    with pytest.raises(InputError, match=r"captions name classes that are not among the classes: \['rot'\]"):
        load_benchmark(benchmark_file(classes=["red"], captions={"rot": "x"}))
    with pytest.raises(InputError, match="'rot' is no class of 'colours'"):
        load_benchmark(benchmark_file(captions={"rot": "x"})).captions(("red", "blue"))


def test_ids_need_as_many_classes(benchmark_file):
    with pytest.raises(InputError, match="2 class_ids and 1 classes"):
        load_benchmark(benchmark_file(classes=["red"], class_ids=["1", "2"]))
    with pytest.raises(InputError, match="class ids stand twice"):
        load_benchmark(benchmark_file(classes=["red", "blue"], class_ids=["1", "1"]))
