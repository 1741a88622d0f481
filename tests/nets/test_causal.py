"""The causal Transformer: no leak, step by step as at once, padding, prefixes, contexts, caches, generation."""

import copy
import math
import pickle

import pytest
import torch
from scipy.stats import chisquare
from torch import nn

from lodim.nets import CausalTransformer, KVCache
from lodim.randomness import build_seeded


def model(**options):
    settings = {"width": 16, "depth": 2, "heads": 2} | options
    net = build_seeded(lambda: CausalTransformer(11, 12, **settings), 0)
    with torch.no_grad():  # away from the small start, so that equalities mean something
        generator = torch.Generator().manual_seed(1)
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.2)
    return net.eval()


def words(batch=3, length=9, seed=2):
    return torch.randint(11, (batch, length), generator=torch.Generator().manual_seed(seed))


def noise(*shape, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_it_is_torchs_encoder_under_a_causal_mask():
    net, tokens = model(), words()
    block = nn.TransformerEncoderLayer(16, 2, 64, 0.0, "gelu", batch_first=True, norm_first=True)
    theirs = nn.TransformerEncoder(block, 2, nn.LayerNorm(16), enable_nested_tensor=False).eval()
    with torch.no_grad():
        for a, b in zip(net.blocks, theirs.layers):
            parts = (a.attn.q, a.attn.k, a.attn.v)
            b.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
            b.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
            for mine, other in (
                (a.attn.o, b.self_attn.out_proj),
                (a.mlp.fc1, b.linear1),
                (a.mlp.fc2, b.linear2),
                (a.norm1, b.norm1),
                (a.norm2, b.norm2),
            ):
                other.load_state_dict(mine.state_dict())
        theirs.norm.load_state_dict(net.norm.state_dict())
    x = net.embed(tokens) + net.positions[:9]
    hidden = theirs(x, mask=nn.Transformer.generate_square_subsequent_mask(9), is_causal=True)
    torch.testing.assert_close(net.features(tokens), hidden)
    torch.testing.assert_close(net(tokens), hidden @ net.embed.weight.T + net.bias)


@pytest.mark.parametrize("context_dim", [0, 5])
def test_a_later_token_changes_nothing_before_it(context_dim):
    net, tokens = model(context_dim=context_dim), words()
    given = {"context": noise(3, 4, 5)} if context_dim else {}
    before = net(tokens, **given)
    for j in (1, 5, 8):
        changed = tokens.clone()
        changed[:, j] = (changed[:, j] + 1) % 11
        after = net(changed, **given)
        assert torch.equal(after[:, :j], before[:, :j])
        assert not torch.equal(after[:, j:], before[:, j:])


@pytest.mark.parametrize("steps", [[1] * 9, [4, 1, 3, 1], [9]])
def test_step_by_step_equals_at_once(steps):
    net, tokens = model(context_dim=5), words()
    prefix, context = noise(3, 2, 16), noise(3, 4, 5)
    whole = net(tokens, prefix=prefix, context=context)
    cache, parts = KVCache(), []
    for i, part in enumerate(tokens.split(steps, 1)):
        parts.append(net(part, cache, context=context, **({"prefix": prefix} if i == 0 else {})))
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-5)
    assert len(cache) == 11


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_seen_by_nobody(side):
    net, tokens = model(), words(2, 6)
    filler, yes, no = (
        words(2, 3, seed=7),
        torch.ones(2, 6, dtype=torch.bool),
        torch.zeros(2, 3, dtype=torch.bool),
    )
    left = side == "left"
    padded = torch.cat([filler, tokens] if left else [tokens, filler], 1)
    real = torch.cat([no, yes] if left else [yes, no], 1)
    found = net(padded, real=real)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[:, 3:] if left else found[:, :6], net(tokens), atol=1e-5, rtol=1e-5)
    cache = KVCache()
    first = net(padded[:, :5], cache, real=real[:, :5])
    second = net(padded[:, 5:], cache, real=real[:, 5:])
    torch.testing.assert_close(torch.cat([first, second], 1), found, atol=1e-5, rtol=1e-5)
    if left:  # and what is said later follows the real ones
        torch.testing.assert_close(
            net(tokens[:, :1], cache)[:, -1], net(torch.cat([tokens, tokens[:, :1]], 1))[:, -1]
        )


def test_the_order_of_context_vectors_does_not_matter_but_they_do():
    net, tokens, context = model(context_dim=5), words(), noise(3, 4, 5)
    torch.testing.assert_close(net(tokens, context=context[:, [2, 0, 3, 1]]), net(tokens, context=context))
    assert not torch.allclose(net(tokens, context=context), net(tokens, context=torch.zeros(3, 4, 5)))


def test_a_cache_is_reordered_and_trimmed():
    net, tokens = model(), words()
    cache, real = KVCache(), torch.ones(3, 9, dtype=torch.bool)
    net(tokens, cache, real=real)
    rows = torch.tensor([2, 2, 0, 1])
    cache.reorder(rows)
    cache.trim(5)
    assert len(cache) == 5
    torch.testing.assert_close(net(tokens[rows, 5:], cache), net(tokens[rows])[:, 5:], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="at most 9"):
        cache.trim(10)
    cache.trim(0)
    torch.testing.assert_close(net(tokens[rows], cache), net(tokens[rows]))


def test_generation_with_the_cache_equals_recomputing():
    net, prompt, prefix = model(), words(4, 2), noise(4, 1, 16)
    found = net.generate(prompt, 6, prefix=prefix, top_k=1)
    expected = prompt
    for _ in range(6):
        expected = torch.cat([expected, net(expected, prefix=prefix)[:, -1:].argmax(-1)], 1)
    assert torch.equal(found, expected)
    assert torch.equal(net.generate(prompt, 0), prompt)
    same = [net.generate(prompt, 6, generator=torch.Generator().manual_seed(s)) for s in (5, 5, 6)]
    assert torch.equal(same[0], same[1])
    assert not torch.equal(same[0], same[2])


def test_generation_draws_from_the_model_and_leaves_its_mode():
    net = model(dropout=0.5).train()
    drawn = net.generate(
        torch.zeros(4000, 1, dtype=torch.int64), 1, generator=torch.Generator().manual_seed(0)
    )
    assert net.training
    expected = net.eval()(torch.zeros(1, 1, dtype=torch.int64))[0, 0].double().softmax(0).detach() * 4000
    assert chisquare(torch.bincount(drawn[:, 1], minlength=11).numpy(), expected.numpy()).pvalue > 1e-3


def test_left_padded_prompts_of_different_length_go_on_as_alone():
    net, tokens = model(), words(2, 4)
    real = torch.tensor([[True] * 4, [False, False, True, True]])
    together = net.generate(tokens, 5, real=real, top_k=1)
    assert torch.equal(together[:1], net.generate(tokens[:1], 5, top_k=1))
    assert torch.equal(together[1:, 2:], net.generate(tokens[1:, 2:], 5, top_k=1))


@pytest.mark.trains
def test_what_it_has_learnt_it_continues():
    """Where a sequence has more than half of the probability, each of its tokens has, and is the greedy choice."""
    net = build_seeded(lambda: CausalTransformer(6, 12, 16, 1, 2), 0)
    tokens = (torch.arange(6)[:, None] + torch.arange(10)) % 6
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(1000):  # about a hundred are needed
        optimizer.zero_grad()
        logits = net(tokens[:, :-1]).transpose(1, 2)
        surprise = nn.functional.cross_entropy(logits, tokens[:, 1:], reduction="none").sum(1).max()
        if surprise < math.log(2):
            break
        surprise.backward()
        optimizer.step()
    assert surprise < math.log(2)
    assert torch.equal(net.generate(tokens[:, :1], 9, top_k=1), tokens)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_precisions_copies_and_empty_batches(dtype):
    net, tokens = model(context_dim=5).to(dtype), words()
    context = noise(3, 4, 5).to(dtype)
    found = net(tokens=tokens, context=context)
    assert found.dtype == dtype
    other = CausalTransformer(11, 12, 16, 2, 2, context_dim=5).to(dtype)
    other.load_state_dict(net.state_dict())
    for copied in (other.eval(), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(copied(tokens, context=context), found)
    assert net(tokens[:0], context=context[:0]).shape == (0, 9, 11)
    assert net(tokens[:1].T.contiguous().T, context=context[:1]).shape == (1, 9, 11)


def test_what_does_not_fit_is_said():
    net = model()
    with pytest.raises(ValueError, match="13 tokens are more"):
        net(words(1, 13))
    with pytest.raises(ValueError, match="13 tokens are more"):
        net.generate(words(1, 9), 5)
    with pytest.raises(ValueError, match="context_dim is 0"):
        net(words(), context=noise(3, 4, 5))
    with pytest.raises(ValueError, match="5 numbers a vector"):
        model(context_dim=5)(words())
    with pytest.raises(ValueError, match="start token"):
        net.generate(words(2, 0), 3)
    with pytest.raises(ValueError, match="multiple of heads"):
        CausalTransformer(4, 4, 6, 1, 4)


def test_prompts_that_end_with_padding_are_refused():
    real = torch.tensor([[True] * 4, [True, True, False, False]])
    with pytest.raises(ValueError, match="padding on the left"):
        model().generate(words(2, 4), 2, real=real)


def test_what_would_be_too_long_is_refused_before_the_first_token():
    net = model()
    assert net.generate(words(1, 9), 4).shape == (1, 13)  # the last is not read
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    with pytest.raises(ValueError, match="14 tokens are more"):
        net.generate(words(1, 9), 5, prefix=noise(1, 1, 16), generator=generator)
    assert torch.equal(generator.get_state(), before)


def test_a_cache_without_tokens_is_as_good_as_new_and_another_is_refused():
    net, tokens = model(), words()
    cache, real = KVCache(), torch.ones(3, 9, dtype=torch.bool)
    net(tokens, cache, real=real)
    for other, rows in ((net, tokens[:2]), (model(depth=3), tokens), (model(depth=1), tokens)):
        with pytest.raises(ValueError, match="the cache holds 2 blocks of 3 sequences"):
            other(rows[:, :1], cache)
    cache.trim(0)
    torch.testing.assert_close(net(tokens[:2], cache), net(tokens[:2]))
    assert len(cache) == 9


def test_a_context_takes_the_precision_of_the_net():
    net, context = model(context_dim=5), noise(3, 4, 5)
    torch.testing.assert_close(net(words(), context=context.double()), net(words(), context=context))
