"""The text program starts as the identity, trimmed captions lose nothing, and compact tokens mean the same tokens."""

import pytest
import torch
from torch.func import functional_call

from reprog_kit.backbone import load_backbone
from reprog_kit.parameters import InputError
from reprog_kit.text_program import TextProgram

CAPTIONS = ["a photo of a cat", "a photo of a hot air balloon", "a cat", "a photo of a cat"]
OPEN_TOWERS = ["vit", "quick", "resnet", "custom", "last"]


def untrimmed(backbone, captions) -> torch.Tensor:
    """The model's own encode_text over the whole context."""
    with torch.no_grad():
        found = backbone.clip.encode_text(backbone.tokenizer(captions))
    return found / found.norm(dim=-1, keepdim=True)


@torch.no_grad()  # as features are computed; with gradients torch picks another attention kernel
@pytest.mark.parametrize("kind", OPEN_TOWERS)
def test_untrained_it_is_the_backbone_to_the_last_bit(backbones, kind):
    backbone = backbones(kind)
    found = TextProgram(backbone, CAPTIONS)(backbone)
    assert torch.equal(found, backbone.encode_text(backbone.tokenize(CAPTIONS)))


@torch.no_grad()
def test_untrained_it_is_the_embedded_backbone_to_the_last_bit(mini):
    assert torch.equal(TextProgram(mini, CAPTIONS)(mini), mini.encode_text(mini.tokenize(CAPTIONS)))
    assert TextProgram(mini, CAPTIONS)(mini) == pytest.approx(untrimmed(mini, CAPTIONS), abs=1e-6)


@pytest.mark.parametrize("kind", OPEN_TOWERS)
def test_trimmed_captions_equal_the_models_own_encode_text(backbones, kind):
    backbone = backbones(kind)
    found = backbone.encode_text(backbone.tokenize(CAPTIONS))
    assert found.detach() == pytest.approx(untrimmed(backbone, CAPTIONS), abs=1e-6)
    assert (found[0] - found[1]).abs().max() > 0.05  # so that the tolerance means something


@pytest.mark.parametrize("kind", ["vit", "custom"])
def test_causal_towers_are_cut_behind_the_longest_caption(backbones, kind):
    # Start, seven words, end.
    assert backbones(kind).tokenize(CAPTIONS).shape == (4, 9)
    assert backbones(kind).tokenize(["a cat"]).shape == (1, 4)


def test_a_tower_that_pools_the_last_position_is_not_cut(backbones):
    backbone = backbones("last")
    assert backbone.text_pool == "last"
    assert backbone.tokenize(["a cat"]).shape == (1, 16)
    assert TextProgram(backbone, ["a cat"]).bias.shape == (16, 32)


def test_it_holds_one_row_a_distinct_token_and_one_bias_a_position(tiny):
    program = TextProgram(tiny, CAPTIONS)
    tokens = tiny.tokenizer(CAPTIONS)[:, :9]
    assert {name: tuple(value.shape) for name, value in program.named_parameters()} == {
        "rows": (len(set(tokens.flatten().tolist())), 32),
        "bias": (9, 32),
    }


@pytest.mark.parametrize("kind", ["vit", "custom", "last"])
def test_each_token_gets_its_own_row_of_the_table(backbones, kind):
    backbone = backbones(kind)
    program, tokens = TextProgram(backbone, CAPTIONS), backbone.tokenize(CAPTIONS)
    assert torch.equal(program.rows[program.tokens_TL], backbone.token_table[tokens])
    assert torch.equal(program.used_V[program.tokens_TL], tokens)


def test_the_end_of_text_stays_the_highest_number_of_every_caption(tiny):
    program, tokens = TextProgram(tiny, CAPTIONS), tiny.tokenize(CAPTIONS)
    assert torch.equal(program.tokens_TL.argmax(dim=1), tokens.argmax(dim=1))
    assert (program.used_V[program.tokens_TL].max(dim=1).values == 49407).all()


def test_equal_captions_and_equal_tokens_stay_equal_after_training(tiny):
    program = TextProgram(tiny, CAPTIONS)
    with torch.no_grad():
        program.rows.add_(torch.randn_like(program.rows))
        program.bias.add_(torch.randn_like(program.bias))
    found = program(tiny)
    assert torch.equal(found[0], found[3])
    assert (found[0] - found[2]).abs().max() > 0.05


@pytest.mark.parametrize("kind", ["vit", "custom", "last"])
def test_a_trained_program_equals_a_trained_full_table_and_bias(backbones, kind):
    backbone = backbones(kind)
    program = TextProgram(backbone, CAPTIONS)
    with torch.no_grad():
        program.rows.add_(0.3 * torch.randn_like(program.rows))
        program.bias.add_(0.3 * torch.randn_like(program.bias))
    table, positions = backbone.token_table.clone(), torch.randn_like(backbone.positions)
    table[program.used_V] = program.rows.detach()
    positions[: len(program.bias)] = program.bias.detach()
    prefix = "" if hasattr(backbone.clip, "token_embedding") else "text."
    swapped = {f"{prefix}token_embedding.weight": table, f"{prefix}positional_embedding": positions}

    class Text(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.clip = backbone.clip

        def forward(self, tokens):
            return self.clip.encode_text(tokens)

    with torch.no_grad():
        whole = functional_call(
            Text(), {f"clip.{name}": v for name, v in swapped.items()}, (backbone.tokenizer(CAPTIONS),)
        )
        found = program(backbone)
    assert found == pytest.approx(whole / whole.norm(dim=-1, keepdim=True), abs=1e-6)
    assert (found - untrimmed(backbone, CAPTIONS)).abs().max() > 0.05


def test_some_classes_encode_as_they_do_among_all(tiny):
    program = TextProgram(tiny, CAPTIONS)
    chosen = torch.tensor([2, 0])
    assert program(tiny, chosen).detach() == pytest.approx(program(tiny)[chosen].detach(), abs=1e-6)


def test_moved_tells_each_rows_relative_distance(tiny):
    program = TextProgram(tiny, CAPTIONS)
    assert torch.count_nonzero(program.moved(tiny)) == 0
    with torch.no_grad():
        program.rows[1] *= 1.5
    assert program.moved(tiny)[1].item() == pytest.approx(0.5, rel=1e-5)
    assert torch.count_nonzero(program.moved(tiny)) == 1


def test_captions_longer_than_the_context_keep_their_end(tiny):
    long = ["a photo of a " + "very " * 30 + "large cat"]
    assert tiny.tokenize(long).shape == (1, 16)
    found = TextProgram(tiny, long)(tiny)
    assert found.detach() == pytest.approx(untrimmed(tiny, long), abs=1e-6)


def test_a_tower_that_adds_a_token_of_its_own_encodes_as_it_does_alone(backbones):
    backbone = backbones("coca")
    with torch.no_grad():
        found = backbone.encode_text(backbone.tokenize(CAPTIONS))
    assert found == pytest.approx(untrimmed(backbone, CAPTIONS), abs=1e-6)


def test_a_text_program_on_such_a_tower_is_the_identity_or_refused(backbones):
    backbone = backbones("coca")
    try:
        program = TextProgram(backbone, CAPTIONS)
    except InputError as error:
        assert "program = 'image'" in str(error)
        return
    assert program(backbone).detach() == pytest.approx(untrimmed(backbone, CAPTIONS), abs=1e-6)


def test_a_tower_that_pools_at_a_fixed_token_is_refused(tower):
    backbone = load_backbone(tower("custom"), device="cpu")
    backbone.clip.text.pool_type = "eos"
    with pytest.raises(InputError, match=r"pools at a fixed token; program = 'image' works with it"):
        TextProgram(backbone, CAPTIONS)
