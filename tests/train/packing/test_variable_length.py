import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from geoclick.train.packing import packed_forward, variable_length

LENGTHS = [5, 130, 1, 64, 17]


def sample_by_sample(query, key, value, scale):
    """Causal attention of each sample alone, [1, T, heads, width]."""
    parts = zip(*(tensor.split(LENGTHS, dim=2) for tensor in (query, key, value)), strict=True)
    outputs = [
        scaled_dot_product_attention(*part, is_causal=True, scale=scale, enable_gqa=True) for part in parts
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2)


def drawn(heads, *, width=32, **kind):
    generator = torch.Generator().manual_seed(heads)
    tensor = torch.randn(1, heads, sum(LENGTHS), width, generator=generator)
    return tensor.to(**kind).requires_grad_()


def relative(result, expected):
    return float(((result.detach().double().cpu() - expected).norm() / expected.norm()).detach())


def test_it_is_for_half_precision_on_a_gpu():
    assert not variable_length.usable(drawn(2, dtype=torch.bfloat16))


@pytest.mark.gpu
@pytest.mark.parametrize(("heads", "key_heads", "scale"), [(4, 4, None), (8, 2, 0.3), (7, 1, 0.1)])
def test_the_kernel_gives_output_and_gradients_of_each_sample_alone(heads, key_heads, scale):
    shapes = (heads, key_heads, key_heads)
    exact = [drawn(number, dtype=torch.float64) for number in shapes]
    half = [tensor.detach().to("cuda", torch.bfloat16).requires_grad_() for tensor in exact]
    bounds = torch.tensor([0, *LENGTHS], device="cuda", dtype=torch.int32).cumsum(0, dtype=torch.int32)
    assert variable_length.usable(half[0])
    output, _ = packed_forward.by_sample(
        torch.nn.Module(), *half, None, sample_lengths=LENGTHS, sample_bounds=bounds, scaling=scale
    )
    expected = sample_by_sample(*exact, scale)
    assert relative(output, expected) < 0.01
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (expected * weight).sum().backward()
    (output * weight.to(output)).sum().backward()
    for a, b in zip(half, exact, strict=True):
        assert relative(a.grad, b.grad) < 0.02
