"""FLOPs counted against sums by hand; a rate that is one; devices by name."""

import pytest
import torch
from torch import nn

from reprog_kit.machine import counted_flops, matrix_rate
from reprog_kit.parameters import InputError


def test_a_product_is_counted_once_forward_and_twice_with_both_gradients():
    left, right = torch.randn(3, 5, requires_grad=True), torch.randn(5, 7, requires_grad=True)
    assert counted_flops(lambda: left @ right) == 2 * 3 * 5 * 7
    assert counted_flops(lambda: (left @ right).sum().backward()) == 3 * 2 * 3 * 5 * 7


def test_a_frozen_weight_saves_its_gradient():
    layer, given = nn.Linear(5, 7).requires_grad_(False), torch.randn(3, 5, requires_grad=True)
    assert counted_flops(lambda: layer(given).sum().backward()) == 2 * 2 * 3 * 5 * 7


def test_attention_is_counted():
    q = torch.randn(2, 4, 6, 8)  # batch, heads, length, width
    assert counted_flops(lambda: nn.functional.scaled_dot_product_attention(q, q, q)) == 2 * (2 * 2 * 4 * 6 * 6 * 8)


def test_nothing_costs_nothing():
    assert counted_flops(lambda: None) == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_rate_is_that_of_products(precision):
    rate = matrix_rate(torch.device("cpu"), precision, seconds=0.01)
    assert 1e8 < rate < 1e15  # between a toy and all machines there are


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match="'fp8' is refused: fp32 or bf16"):
        matrix_rate(torch.device("cpu"), "fp8")
