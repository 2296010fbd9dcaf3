"""What a reprogrammer is compared with: each at its known ends, and beside an independent computation."""

import copy

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from reprog_kit.backbone import load_backbone
from reprog_kit.baselines import L2SP, LPFT, FineTune, LinearProbe
from reprog_kit.benchmarks import load_benchmark
from reprog_kit.coop import CoOp
from reprog_kit.datasets import BenchmarkData
from reprog_kit.features import encode, head, run_features
from reprog_kit.methods import METHODS, build
from reprog_kit.parameters import InputError
from reprog_kit.probe import STRENGTHS, fit_probe
from reprog_kit.train import halving_steps, train
from reprog_kit.zero_shot import PromptEnsemble, ZeroShot

CAPTIONS = ["a photo of a cat", "a photo of a hot air balloon", "a photo of a dog"]
NAMES = ["cat", "hot air balloon", "dog"]
TUNED = ("fine_tune", "lp_ft", "l2_sp")


def pictures(n: int, side: int = 20, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, side, side, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.fixture
def start(tiny, colours):
    """Return a function that prepares a method on the colours: method, train set, validation set, settings."""

    def prepare(method: str, **given):
        settings = colours(method=method, **given)
        data = BenchmarkData(load_benchmark(settings.dataset), settings.data_root, settings.limit)
        return build(tiny, data.classes, data.captions, settings), data.train, data.validation, settings

    return prepare


def trained(start, method: str, **given) -> tuple[ZeroShot, list]:
    made, *rest = start(method, **given)
    return made, list(train(made, *rest))


def clusters(n: int, spread: float, classes: int = 4, dimensions: int = 24, seed: int = 0):
    """Unit features around class means, and their labels."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(99).normal(size=(classes, dimensions))
    labels = np.arange(n) % classes
    found = means[labels] + spread * rng.normal(size=(n, dimensions))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize("method", [m for m in METHODS if m != "zero_shot"])
def test_every_method_trains_and_ends_as_features_weights_and_a_scale(start, method):
    rates = {"coop": {"lr": 0.3, "epochs": 60}, "linear_probe": {}, "reprogrammer": {"image_lr": 0.05, "text_lr": 0.01}}
    made, epochs = trained(start, method, **{"epochs": 8, **rates.get(method, {"lr": 0.002})})
    assert epochs[-1].record["validation_accuracy"] >= 0.5
    found, ended = encode(made, pictures(5).numpy()), head(made)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert ended.weights_CD.shape == (3, 32)
    assert ended.scale > 0
    logits = torch.from_numpy(ended.logits(found))
    labels = torch.tensor([0, 1, 2, 1, 0])
    if method not in ("reprogrammer", "l2_sp"):  # their loss is not the plain cross-entropy
        expected = torch.nn.functional.cross_entropy(logits, labels).item()
        assert made.loss(pictures(5), labels, start(method)[3]).item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "zero_shot"])
def test_no_method_touches_the_backbone(start, tiny, method):
    before = copy.deepcopy(tiny.clip.state_dict())
    made, _ = trained(start, method)
    assert all(torch.equal(v, before[k]) for k, v in tiny.clip.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in tiny.parameters())
    assert made.trainable_numbers() == sum(
        v.numel() for k, v in made.program_state().items() if k != "head_scale" and "running" not in k
    )


def test_zero_shot_has_nothing_to_train_and_is_done_at_once(start, tiny):
    made, (epoch,) = trained(start, "zero_shot")
    assert made.program_state() == {}
    assert made.trainable_numbers() == 0
    assert epoch.record["epoch"] == 1


@torch.no_grad()
def test_a_prompt_ensemble_is_the_mean_of_its_captions_and_of_one_it_is_zero_shot(tiny):
    plain = ZeroShot(tiny, CAPTIONS)
    assert PromptEnsemble(tiny, [CAPTIONS]).class_weights() == pytest.approx(plain.class_weights(), abs=1e-6)
    others = [caption.replace("photo", "drawing") for caption in CAPTIONS]
    mean = (plain.class_weights() + ZeroShot(tiny, others).class_weights()) / 2
    expected = mean / mean.square().sum(dim=1, keepdim=True).sqrt()
    assert PromptEnsemble(tiny, [CAPTIONS, others]).class_weights() == pytest.approx(expected, abs=1e-6)
    both = torch.tensor([2, 0])
    assert PromptEnsemble(tiny, [CAPTIONS, others]).class_weights(both) == pytest.approx(expected[both], abs=1e-6)


# -- the probe


def lbfgs_probe(features: np.ndarray, labels: np.ndarray, strength: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The same regression by torch: sum of cross-entropies + |W|^2 / (2 C), full batch, to convergence."""
    x, y = torch.from_numpy(features).double(), torch.from_numpy(labels)
    weights = torch.zeros(int(y.max()) + 1, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(weights), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(x @ weights.T + bias, y, reduction="sum")
        loss = loss + weights.square().sum() / (2 * strength)
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach(), bias.detach()


def test_the_solved_probe_agrees_with_a_plain_torch_lbfgs_probe():
    fit, held_out, test = clusters(600, 1.6), clusters(400, 1.6, seed=1), clusters(2000, 1.6, seed=2)
    weights, bias = fit_probe(fit, held_out, classes=4)
    accuracies = []
    for strength in STRENGTHS:
        by_torch = lbfgs_probe(*fit, strength)
        hits = [
            ((torch.from_numpy(x).double() @ by_torch[0].T + by_torch[1]).argmax(1).numpy() == y).mean()
            for x, y in (held_out, test)
        ]
        accuracies.append(hits)
    best = max(range(len(STRENGTHS)), key=lambda i: accuracies[i][0])  # the first of equals, as ours
    mine = ((test[0] @ weights.T + bias).argmax(1) == test[1]).mean()
    assert 0.5 < mine < 0.99  # so that the tolerance means something
    assert mine == pytest.approx(accuracies[best][1], abs=0.003)


def test_the_strength_is_chosen_on_what_was_held_out_and_ties_go_to_the_strongest_penalty():
    fit, held_out = clusters(60, 2.0), clusters(300, 2.0, seed=1)
    scores = [LogisticRegression(C=c, max_iter=1000).fit(*fit).score(*held_out) for c in STRENGTHS]
    assert len(set(scores)) > 1
    weights, _ = fit_probe(fit, held_out, classes=4)
    wanted = LogisticRegression(C=STRENGTHS[int(np.argmax(scores))], max_iter=1000).fit(*fit)
    assert np.linalg.norm(weights) == pytest.approx(np.linalg.norm(wanted.coef_), rel=0.02)
    easy = clusters(60, 0.01)
    assert np.linalg.norm(fit_probe(easy, easy, classes=4)[0]) == pytest.approx(
        np.linalg.norm(LogisticRegression(C=STRENGTHS[0]).fit(*easy).coef_), rel=0.01
    )


def test_a_probe_of_two_classes_has_two_rows():
    fit = clusters(40, 0.5, classes=2)
    weights, bias = fit_probe(fit, fit, classes=2)
    by_torch = lbfgs_probe(*fit, STRENGTHS[0])
    expected = torch.softmax(torch.from_numpy(fit[0]).double() @ by_torch[0].T + by_torch[1], 1).numpy()
    logits = fit[0] @ weights.T + bias
    # One row of differences is penalised twice as hard as two rows: the answers agree, their certainty almost.
    assert (logits.argmax(1) == expected.argmax(1)).all()
    assert weights.shape == (2, 24)
    assert bias.shape == (2,)


def test_a_probe_without_a_picture_of_a_class_is_refused():
    x, y = clusters(40, 0.5)
    with pytest.raises(InputError, match=r"there is none of label \[2\]"):
        fit_probe((x[y != 2], y[y != 2]), (x, y), classes=4)


def test_both_recipes_of_the_probe_learn_the_colours(start):
    solved, by_steps = (
        trained(start, "linear_probe", probe=probe, **more)
        for probe, more in (("lbfgs", {}), ("adam", {"epochs": 60, "lr": 0.05, "schedule": "steps"}))
    )
    assert len(solved[1]) == 1
    assert len(by_steps[1]) == 60
    for made, epochs in (solved, by_steps):
        assert epochs[-1].record["validation_accuracy"] >= 0.8
        rows = made.class_weights().detach().norm(dim=1)
        assert rows.mean().item() == pytest.approx(1, abs=1e-5)  # so that MCM at temperature 1 means the same


def test_the_probes_start_depends_on_the_seed(tiny):
    one, again, other = (LinearProbe(tiny, CAPTIONS, seed=seed).weights_CD for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("step", "share"), [(0, 1), (39, 1), (40, 0.5), (69, 0.5), (70, 0.2), (79, 0.2), (80, 0.1), (99, 0.1)]
)
def test_the_reference_halves_its_rates_at_40_70_and_80_percent(step, share):
    assert halving_steps(step, 100) == share


# -- fine-tuning


@torch.no_grad()
@pytest.mark.parametrize("kind", ["vit", "quick", "resnet", "custom"])
@pytest.mark.parametrize("method", [FineTune, L2SP, LPFT])
def test_untrained_fine_tuning_is_zero_shot_to_the_last_bit(backbones, kind, method):
    backbone = backbones(kind)
    plain, tuned = ZeroShot(backbone, CAPTIONS, 26), method(backbone, CAPTIONS, 26)
    assert torch.equal(tuned.image_features(pictures(3)), plain.image_features(pictures(3)))
    assert torch.equal(tuned.class_weights(), plain.class_weights())
    assert tuned.scale == plain.scale


def test_fine_tuning_moves_the_whole_image_tower_and_no_text(start, tiny):
    made, _ = trained(start, "fine_tune", lr=0.01)
    before = FineTune(tiny, made.captions).program_state()
    for name, value in made.program_state().items():
        assert torch.equal(value, before[name]) == (name == "head_scale"), name
    assert all(name.startswith("visual.") for name in before.keys() - {"weights_CD", "bias_C", "head_scale"})


def test_batch_norm_keeps_its_statistics_and_trains_its_scale(tower, colours):
    backbone, settings = load_backbone(tower("resnet"), device="cpu"), colours(method="fine_tune", lr=0.01)
    made = FineTune(backbone, CAPTIONS)
    before = {k: v.clone() for k, v in made.image_state().items()}
    made.train()
    (optimizer,) = made.optimizers(settings)
    made.loss(pictures(6), torch.tensor([0, 1, 2, 1, 0, 2]), settings).backward()
    optimizer.step()
    still = {k for k, v in made.image_state().items() if torch.equal(v, before[k])}
    assert {k for k in before if "running" in k or "num_batches" in k} <= still
    assert "visual.bn1.weight" in before.keys() - still


def test_the_head_takes_the_steps_of_a_head_times_its_scale(tiny, colours):
    """A second route: AdamW on the scaled head itself, as the reference has it."""
    settings = colours(method="fine_tune", lr=0.003, weight_decay=0.1)
    made, labels = FineTune(tiny, CAPTIONS), torch.tensor([0, 1, 2, 1])
    features = made.image_features(pictures(4)).detach()
    scaled = (made.scale * made.weights_CD.detach()).clone().requires_grad_(True)
    bias = torch.zeros(3, requires_grad=True)
    reference = torch.optim.AdamW([scaled, bias], 0.003, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1)
    (optimizer,) = made.optimizers(settings)
    for _ in range(20):
        for one in (optimizer, reference):
            one.zero_grad()
        made.feature_loss(features, labels, settings).backward()
        torch.nn.functional.cross_entropy(features @ scaled.T + bias, labels).backward()
        optimizer.step()
        reference.step()
    assert (scaled - made.scale * made.start_CD).abs().max() > 0.01
    assert made.scale * made.weights_CD.detach() == pytest.approx(scaled.detach(), abs=1e-3)
    assert made.bias_C.detach() == pytest.approx(bias.detach(), abs=1e-3)


def test_l2_sp_at_zero_is_fine_tuning_bit_for_bit(start):
    one, _ = trained(start, "fine_tune", lr=0.002)
    other, _ = trained(start, "l2_sp", lr=0.002, l2_sp=0.0)
    assert all(torch.equal(v, other.program_state()[k]) for k, v in one.program_state().items())


def test_a_heavier_l2_sp_stays_nearer_to_the_start(start):
    free, held = (trained(start, "l2_sp", lr=0.002, l2_sp=weight)[0].squared_distance() for weight in (0.0, 10.0))
    assert held < 0.5 * free


def test_the_penalty_is_the_squared_distance_written_out(start, tiny):
    made, _ = trained(start, "l2_sp", lr=0.01)
    begin, total = FineTune(tiny, made.captions).program_state(), 0.0
    for name, value in made.program_state().items():
        factor = made.scale if name == "weights_CD" else 0.0 if name in ("bias_C", "head_scale") else 1.0
        total += float(((factor * (value - begin[name])).double() ** 2).sum())
    assert made.squared_distance().item() == pytest.approx(total, rel=1e-4)
    settings, labels = start("l2_sp", l2_sp=0.3)[3], torch.tensor([0, 1, 2])
    plain = made.feature_loss(made.image_features(pictures(3)), labels, settings).item()
    assert made.loss(pictures(3), labels, settings).item() == pytest.approx(plain + 0.15 * total, rel=1e-4)


def test_lp_ft_starts_at_the_probe(start):
    made, fit, validation, settings = start("lp_ft")
    made.prepare(fit, validation, settings)
    probe, *rest = start("linear_probe")
    list(train(probe, *rest))
    found = run_features(probe, validation, settings)
    assert head(made).logits(found) == pytest.approx(head(probe).logits(found), abs=1e-3)


# -- WiSE-FT


@torch.no_grad()
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_wise_ft_is_zero_shot_at_0_and_fine_tuned_at_1_to_the_last_bit(backbones, kind):
    backbone = backbones(kind)
    tuned = FineTune(backbone, CAPTIONS)
    for value in tuned.program_state().values():
        if value.is_floating_point() and value.ndim:
            value.add_(0.01 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1)))
    for weight, end in ((0.0, ZeroShot(backbone, CAPTIONS)), (1.0, tuned)):
        mixed = tuned.interpolated(weight)
        assert torch.equal(mixed.image_features(pictures(3)), end.image_features(pictures(3)))
        assert torch.equal(mixed.class_weights(), end.class_weights())
        assert mixed.scale == end.scale
        assert not mixed.bias().any() if weight == 0 else torch.equal(mixed.bias(), tuned.bias())


@torch.no_grad()
def test_wise_ft_between_is_the_weighted_mean_of_the_weights(tiny):
    tuned = FineTune(tiny, CAPTIONS)
    for value in tuned.program_state().values():
        if value.ndim:
            value.add_(0.1)
    begin, end, mixed = (m.program_state() for m in (FineTune(tiny, CAPTIONS), tuned, tuned.interpolated(0.3)))
    for name in [name for name, value in begin.items() if value.ndim]:
        assert mixed[name] == pytest.approx(0.7 * begin[name] + 0.3 * end[name], abs=1e-5), name


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_a_wise_weight_outside_0_to_1_is_refused(tiny, weight):
    with pytest.raises(InputError, match=f"wise_weight = {weight} is refused"):
        FineTune(tiny, CAPTIONS).interpolated(weight)


# -- CoOp


@torch.no_grad()
@pytest.mark.parametrize("kind", ["vit", "quick", "resnet", "custom"])
def test_coop_with_the_words_of_the_caption_is_zero_shot(backbones, kind):
    backbone = backbones(kind)
    for tail in ("", "."):
        captions = [caption + tail for caption in CAPTIONS]
        made = CoOp(backbone, NAMES, captions, context_init="a photo of a")
        assert made.context_KW.shape[0] == 4
        assert torch.equal(made.class_weights(), ZeroShot(backbone, captions).class_weights())
        chosen = torch.tensor([2, 0])
        assert made.class_weights(chosen) == pytest.approx(made.class_weights()[chosen], abs=1e-6)


def test_coop_with_words_is_zero_shot_on_the_embedded_backbone(mini):
    made, plain = CoOp(mini, NAMES, CAPTIONS, context_init="a photo of a"), ZeroShot(mini, CAPTIONS)
    with torch.no_grad():
        assert torch.equal(made.class_weights(), plain.class_weights())
    assert np.array_equal(encode(made, pictures(3).numpy()), encode(plain, pictures(3).numpy()))


def test_coop_trains_its_contexts_alone_and_every_caption_depends_on_them(tiny, colours):
    made = CoOp(tiny, NAMES, CAPTIONS, contexts=5)
    assert made.program_state().keys() == {"context_KW"}
    for c in range(3):
        made.zero_grad()
        made.class_weights()[c, :3].sum().backward()
        assert (made.context_KW.grad.abs().sum(dim=1) > 0).all()
    (optimizer,) = made.optimizers(colours(method="coop", recipe="released", epochs=2))
    wanted = {"lr": 2e-3, "momentum": 0.9, "weight_decay": 5e-4}
    assert {k: optimizer.param_groups[0][k] for k in wanted} == wanted


def test_contexts_that_do_not_fit_are_refused_with_how_many_do(tiny):
    with pytest.raises(InputError, match="contexts = 14 is refused: 11 fit before the longest class name"):
        CoOp(tiny, NAMES, CAPTIONS, contexts=14)
    CoOp(tiny, NAMES, CAPTIONS, contexts=11)
