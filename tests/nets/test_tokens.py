"""Backbones of whole sequences: what reaches which place, and what they are told besides."""

import pytest
import torch
from torch import nn

from lodim.nets import BidirectionalTransformer, DilatedConvNet, ResidualMLP

KINDS = (BidirectionalTransformer, DilatedConvNet, ResidualMLP)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_precision_and_what_is_told(kind):
    torch.manual_seed(0)
    net = kind(5, 6, width=16, time_conditioning=True, n_classes=3)
    x, t, y = torch.randint(5, (4, 6)), torch.rand(4), torch.tensor([0, 1, 2, -1])
    out = net(x, t, y)
    assert out.shape == (4, 6, 4)
    assert torch.equal(net(x, t)[3], out[3])  # -1 and nothing are the same
    assert not torch.allclose(net(x, t)[0], out[0])
    assert not torch.allclose(net(x, 1 - t, y), out)
    assert net(x[:0], t[:0], y[:0]).shape == (0, 6, 4)
    assert net.double()(x, t, y).dtype == torch.float64
    assert torch.allclose(net.head(net.features(x, t, y)).flatten(), net(x, t, y).flatten())
    plain = kind(5, 6, 7, width=16)
    assert plain(x).shape == (4, 6, 7)
    for wrong, said in (
        ((x, t), "time_conditioning=False"),
        ((x, None, y), "n_classes=0"),
        ((x[:, :4],), r"shape \(n, 6\), got \(4, 4\)"),
    ):
        with pytest.raises(ValueError, match=said):
            plain(*wrong)
    with pytest.raises(ValueError, match="needs t"):
        net(x)
    with pytest.raises(ValueError, match="classes from 0 to 2"):
        net(x, t, y + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_counts(kind):
    torch.manual_seed(0)
    net = kind(5, 6, width=16, time_conditioning=True, n_classes=2)
    if kind is ResidualMLP:  # blocks start as the identity
        for block in net.blocks:
            nn.init.normal_(block.fc2.weight)
    x = torch.stack([torch.arange(6) % 5, (torch.arange(6) + 2) % 5] * 8)
    net(x, torch.rand(16), torch.arange(16) % 3 - 1).square().sum().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not bool(p.grad.any())]


def test_the_sum_of_rows_is_a_linear_layer_of_one_hot_vectors():
    net, x = ResidualMLP(4, 3, width=8, depth=0), torch.randint(4, (5, 3))
    one_hot = nn.functional.one_hot(x, 4).flatten(1).float()
    assert torch.allclose(net.norm(one_hot @ net.embed.weight), net.features(x), atol=1e-6)


def test_a_convolution_reaches_as_far_as_it_says_and_attention_everywhere():
    x = torch.zeros(1, 21, dtype=torch.int64)
    y = x.clone()
    y[0, 10] = 1
    torch.manual_seed(0)
    net = DilatedConvNet(3, 21, width=8, dilations=(1, 2), kernel=3)
    for block in net.blocks:
        block.norm = nn.Identity()  # which looks at all places
    changed = (net(x) - net(y)).abs().sum(-1)[0] > 1e-7
    assert changed.nonzero()[:, 0].tolist() == list(range(7, 14))
    transformer = BidirectionalTransformer(3, 21, width=8, heads=2)
    assert bool(((transformer(x) - transformer(y)).abs().sum(-1) > 0).all())
    turned = torch.roll(y, 3, 1)
    nn.init.zeros_(transformer.positions)
    assert torch.allclose(transformer(turned), torch.roll(transformer(y), 3, 1), atol=1e-5)
