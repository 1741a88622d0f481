"""The small Transformer: shapes, symmetries, names, gradients."""

import pytest
import torch
from torch import nn

from lodim.nets import Attention, TransformerEncoder, VisionTransformer, find_layers, vit
from lodim.randomness import build_seeded


def encoder(**options):
    return build_seeded(lambda: TransformerEncoder(16, **({"depth": 2, "heads": 4} | options)), 0).double()


def image_net(**options):
    settings = {"patch": 4, "width": 16, "depth": 2, "heads": 2} | options
    net = build_seeded(lambda: VisionTransformer((2, 8, 12), 3, **settings), 0)
    with torch.no_grad():  # away from the small start, so that equalities mean something
        generator = torch.Generator().manual_seed(1)
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.3)
    return net.double()


def images(n=5):
    return torch.randn(n, 2, 8, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_attention_is_torchs():
    ours = build_seeded(lambda: Attention(16, 4), 0).double()
    theirs = nn.MultiheadAttention(16, 4, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.q.weight, ours.k.weight, ours.v.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.q.bias, ours.k.bias, ours.v.bias]))
        theirs.out_proj.load_state_dict(ours.o.state_dict())
    x = torch.randn(3, 7, 16, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x, x, x, need_weights=False)[0])


def test_the_encoder_is_torchs_pre_norm_encoder():
    ours = encoder(mlp_ratio=3)
    block = nn.TransformerEncoderLayer(16, 4, 48, 0.0, "gelu", batch_first=True, norm_first=True)
    theirs = nn.TransformerEncoder(block, 2, nn.LayerNorm(16), enable_nested_tensor=False).double()
    with torch.no_grad():
        for a, b in zip(ours.blocks, theirs.layers):
            b.self_attn.in_proj_weight.copy_(torch.cat([a.attn.q.weight, a.attn.k.weight, a.attn.v.weight]))
            b.self_attn.in_proj_bias.zero_()
            b.self_attn.out_proj.load_state_dict(a.attn.o.state_dict())
            b.linear1.load_state_dict(a.mlp.fc1.state_dict())
            b.linear2.load_state_dict(a.mlp.fc2.state_dict())
    x = torch.randn(3, 7, 16, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))


def test_the_encoder_commutes_with_permuting_tokens():
    net, order = encoder(), torch.randperm(9, generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, 9, 16, dtype=torch.float64)
    torch.testing.assert_close(net(x[:, order]), net(x)[:, order])


@pytest.mark.parametrize("positions", [True, False])
def test_only_positions_tell_the_order_of_patches(positions):
    net, x = image_net(positions=positions), images()
    swapped = torch.cat([x[..., 4:8], x[..., :4], x[..., 8:]], dim=-1)
    assert torch.allclose(net(swapped), net(x), atol=1e-10) != positions


def test_patches_are_the_images_squares():
    net, x = image_net(), images()
    cut = net.patches(x)
    assert cut.shape == (5, 6, 2 * 16)
    assert torch.equal(cut[3, 4].view(2, 4, 4), x[3, :, 4:8, 4:8])


def test_flat_images_and_images_alike():
    net, x = image_net(), images()
    assert torch.equal(net(x.flatten(1)), net(x))


def test_samples_do_not_see_each_other():
    net, x = image_net(), images()
    torch.testing.assert_close(net(x)[2:3], net(x[2:3]))


def test_names_and_sizes():
    net = vit()
    names = list(find_layers(net, ["q", "k", "v", "o", "fc1", "fc2"]))
    assert len(names) == 4 * 6
    assert names[:6] == [
        f"encoder.blocks.0.{n}" for n in ("attn.q", "attn.k", "attn.v", "attn.o", "mlp.fc1", "mlp.fc2")
    ]
    block = 4 * (128 * 128 + 128) + (128 * 512 + 512) + (512 * 128 + 128) + 4 * 128
    assert (
        sum(p.numel() for p in net.parameters()) == 4 * block + (49 * 128 + 128) + 16 * 128 + 2 * 128 + 1290
    )


def test_every_parameter_gets_a_gradient_and_keys_have_no_bias_to_learn():
    net = image_net()
    net(images()).square().sum().backward()
    for name, p in net.named_parameters():
        if name.endswith("attn.k.bias"):  # shifts all scores of a query alike: softmax does not see it
            assert float(p.grad.abs().max()) < 1e-10
        else:
            assert float(p.grad.abs().max()) > 1e-8, name


def test_the_gradient_is_the_functions():
    net = TransformerEncoder(4, depth=1, heads=2, mlp_ratio=1.0).double()
    assert torch.autograd.gradcheck(net, (torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True),))


@pytest.mark.parametrize("positions", [True, False])
def test_a_head_can_tell_where_the_bright_patch_is_only_by_positions(positions):
    net = image_net(positions=positions)
    x = torch.zeros(6, 2, 8, 12, dtype=torch.float64)
    for i in range(6):
        x[i, 0, 4 * (i // 3) + 1, 4 * (i % 3) + 2] = 2.0
    kept = []
    net.head.register_forward_pre_hook(lambda _, given: kept.append(given[0].detach()))
    net(x)
    seen = torch.cat([kept[0], torch.ones(6, 1, dtype=torch.float64)], 1)
    answer = seen @ torch.linalg.lstsq(seen, torch.eye(6, dtype=torch.float64), driver="gelsd").solution
    # six points in general position are told apart by a linear map; without positions all six are one point
    torch.testing.assert_close(
        answer, torch.eye(6).double() if positions else torch.full((6, 6), 1 / 6).double()
    )


def test_dropout_acts_in_training_only():
    net = image_net(dropout=0.5)
    x = images()
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_the_start_is_seeded_and_small():
    one, other = (build_seeded(vit, 3) for _ in range(2))
    for (name, a), b in zip(one.named_parameters(), other.parameters()):
        assert torch.equal(a, b)
        if a.ndim == 2:
            assert float(a.detach().std()) == pytest.approx(0.02, rel=0.15), name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TransformerEncoder(10, heads=4), "multiple of heads, got 10 and 4"),
        (lambda: TransformerEncoder(8, depth=0), "depth must be at least 1"),
        (lambda: TransformerEncoder(8, dropout=1.5), "dropout must be"),
        (lambda: TransformerEncoder(8, mlp_ratio=0.0), "mlp_ratio must be"),
        (lambda: TransformerEncoder(8, mlp_ratio=float("inf")), "mlp_ratio must be"),
        (lambda: Attention(8, 0), "heads must be at least 1"),
        (lambda: Attention(8, 2, context_width=-1), "context_width must be at least 1"),
        (lambda: vit(width=-1), "width must be at least 1"),
        (lambda: vit((1, 28, 28), patch=5), "patches of 5 do not divide an image of 28 x 28"),
        (lambda: vit((28, 28)), "channels, height, width"),
        (lambda: vit((1, 28, 28), 0), "n_classes must be at least 1"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(Exception, match=message):
        make()
