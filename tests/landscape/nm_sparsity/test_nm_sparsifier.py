"""Training into a pattern: phases, driving, resumption, what is left at the end."""

import io
import math

import numpy as np
import pytest
import torch
from torch import nn

from lodim.landscape import MagnitudePruner, NMSparsifier, check_nm, nm_mask
from lodim.landscape.nm_sparsity import RECIPES
from lodim.nets import fc, mlp, vit
from lodim.randomness import build_seeded
from lodim.training import Recipe, Task, fit

pytestmark = pytest.mark.trains

OPTIONS = {"sdgf-custom": {"stages": [(4, 8), (1, 8)]}}


def network(seed=0):
    return build_seeded(lambda: mlp([64, 64, 64, 3]), seed)


def sparsified(recipe="mdgf-exp", n=1, m=8, *, net=None, total_steps=20, targets=("0", "2"), **options):
    net = network() if net is None else net
    return net, NMSparsifier(
        net,
        n,
        m,
        recipe,
        targets=list(targets),
        total_steps=total_steps,
        **OPTIONS.get(recipe, {}),
        **options,
    )


def batches(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(16, 64, generator=generator) for _ in range(count)]


def loss_of(net, x):
    return net(x).sin().square().sum()


def train(net, sparsifier, data, optimizer=None):
    optimizer = optimizer or torch.optim.AdamW(net.parameters(), lr=1e-2)
    for x in data:
        optimizer.zero_grad()
        loss_of(net, x).backward()
        optimizer.step()
        sparsifier.step()
    return optimizer


@pytest.mark.parametrize("recipe", [r for r in RECIPES if r != "dense"])
@pytest.mark.parametrize("dim", ["in", "out"])
def test_every_recipe_ends_exactly_in_the_pattern(recipe, dim):
    net, sparsifier = sparsified(recipe, dim=dim)
    train(net, sparsifier, batches(20))
    found = sparsifier.finalize()
    assert found.exact
    assert check_nm(net, 1, 8, ["0", "2"], dim=dim) == found
    assert type(net[0]) is nn.Linear
    assert not check_nm(net, 1, 8, ["4"], dim="in").valid
    assert set(net.state_dict()) == set(network().state_dict())


@pytest.mark.parametrize("m", [2, 4, 8, 16, 32])
@pytest.mark.parametrize("dim", ["in", "out"])
def test_convolutions(m, dim):
    net = nn.Sequential(nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 1), nn.Flatten(), nn.Linear(64, 2))
    sparsifier = NMSparsifier(net, 1, m, "ste", targets=["0", "2"], total_steps=2, dim=dim, dense_frac=0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        net(torch.randn(2, 32, 3, 3)).sum().backward()
        optimizer.step()
        sparsifier.step()
    assert sparsifier.finalize().exact
    weight = net[0].weight.movedim(int(dim == "in"), -1).reshape(-1, m)
    assert bool(((weight != 0).sum(1) == 1).all())


def test_dense_changes_nothing():
    net, sparsifier = sparsified("dense")
    other = network()
    train(net, sparsifier, batches(20))
    optimizer = torch.optim.AdamW(other.parameters(), lr=1e-2)
    for x in batches(20):
        optimizer.zero_grad()
        loss_of(other, x).backward()
        optimizer.step()
    assert not sparsifier.finalize().valid
    for a, b in zip(net.parameters(), other.parameters()):
        assert torch.equal(a, b)


def test_the_dense_phase_is_dense_training_for_every_recipe():
    """Until the pattern begins, outputs and gradients are those of the plain network, exactly."""
    for recipe in RECIPES:
        net, sparsifier = sparsified(recipe, dense_frac=0.5)
        train(net, sparsifier, batches(9))
        other, dense = sparsified("dense")
        train(other, dense, batches(9))
        for a, b in zip(net.parameters(), other.parameters()):
            assert torch.equal(a, b)


def test_the_forward_uses_the_mask_of_the_present_weights():
    net, sparsifier = sparsified("ste", dense_frac=0)
    data = batches(6)
    for x in data:
        W = sparsifier.dense_weights["0"]
        assert torch.equal(net[0].weight, W * nm_mask(W, 1, 8))
        train(net, sparsifier, [x])


def test_mask_decay_shows_the_share_of_pruned_weights():
    net, sparsifier = sparsified("mdgf-linear", dense_frac=0, finetune_frac=0)
    assert torch.equal(net[0].weight, sparsifier.dense_weights["0"])
    train(net, sparsifier, batches(10))
    W = sparsifier.dense_weights["0"]
    mask = nm_mask(W, 1, 8)
    assert sparsifier.beta == 0.5
    torch.testing.assert_close(net[0].weight, W * (mask + 0.5 * (1 - mask)), rtol=0, atol=0)
    train(net, sparsifier, batches(10))
    assert sparsifier.beta == 0


def test_structure_decay_tightens_the_pattern():
    net, sparsifier = sparsified("sdgf-stepwise", dense_frac=0, finetune_frac=0)
    seen = []
    for x in batches(20):
        assert check_nm(net, *sparsifier.current_pattern, ["0", "2"]).exact
        seen.append(sparsifier.current_pattern)
        train(net, sparsifier, [x])
    assert list(dict.fromkeys(seen)) == [(7, 8), (4, 8), (2, 8), (1, 8)]
    assert [seen.count((n, 8)) for n in (7, 4, 2, 1)] == [5] * 4


def test_geometric_stages_shrink_to_what_divides_a_layer():
    net = build_seeded(lambda: mlp([64, 48, 3]), 0)
    sparsifier = NMSparsifier(net, 1, 8, "sdgf-geometric", targets=["0", "2"], total_steps=8, dense_frac=0)
    assert sparsifier.current_pattern == (8, 64)
    assert check_nm(net, 8, 64, ["0"]).exact
    assert check_nm(net, 2, 16, ["2"]).exact  # 48 inputs: 32 does not divide them


def test_one_shot_cuts_when_the_last_phase_begins():
    net, sparsifier = sparsified("one-shot", finetune_frac=0.25)
    train(net, sparsifier, batches(14))
    assert sparsifier.current_pattern == (1, 1)
    train(net, sparsifier, batches(1))
    assert sparsifier.current_pattern == (1, 8)
    assert check_nm(net, 1, 8, ["0", "2"]).exact


def test_masks_are_computed_every_so_often_and_at_the_end():
    net, sparsifier = sparsified("ste", update_every=5, dense_frac=0, finetune_frac=0)
    masks = []
    for x in batches(19):
        train(net, sparsifier, [x])
        masks.append(sparsifier.masks["0"].clone())
    for i in range(1, 19):
        same = torch.equal(masks[i], masks[i - 1])
        assert same == ((i + 1) % 5 != 0)
    train(net, sparsifier, batches(1))
    W = sparsifier.dense_weights["0"].detach().clone()
    sparsifier.finalize()
    assert torch.equal(net[0].weight, W * nm_mask(W, 1, 8))


def test_frozen_masks_stay():
    net, sparsifier = sparsified("sr-ste", freeze=True, finetune_frac=0.5, dense_frac=0)
    train(net, sparsifier, batches(10))
    mask = sparsifier.masks["0"].clone()
    train(net, sparsifier, batches(10, seed=1))
    W = sparsifier.dense_weights["0"].detach().clone()
    assert not torch.equal(nm_mask(W, 1, 8), mask)
    assert sparsifier.finalize().exact
    assert torch.equal(net[0].weight, W * mask)


def test_past_the_end_the_pattern_stays():
    net, sparsifier = sparsified(total_steps=5, dense_frac=0, finetune_frac=0)
    train(net, sparsifier, batches(9))
    assert (sparsifier.beta, sparsifier.current_pattern, sparsifier.steps) == (0, (1, 8), 9)
    assert check_nm(net, 1, 8, ["0", "2"]).exact
    assert sparsifier.finalize().exact


def test_finalizing_early_warns_and_still_gives_the_pattern():
    net, sparsifier = sparsified()
    train(net, sparsifier, batches(3))
    with pytest.warns(UserWarning, match="after 3 of 20 steps"):
        assert sparsifier.finalize().exact
    for act in (sparsifier.step, sparsifier.finalize, lambda: sparsifier.dense_weights):
        with pytest.raises(RuntimeError, match="is finalized"):
            act()
    NMSparsifier(net, 2, 4, targets=["0"], total_steps=5)  # the model is an ordinary one again


@pytest.mark.parametrize("recipe", ["mdgf-exp", "sr-ste", "sdgf-stepwise"])
@pytest.mark.parametrize("through", ["sparsifier", "model"])
def test_a_resumed_training_continues_bit_identically(recipe, through):
    data = batches(20)
    options = {"update_every": 3, "freeze": True}
    net, sparsifier = sparsified(recipe, **options)
    optimizer = train(net, sparsifier, data[:11])
    file = io.BytesIO()
    torch.save([net.state_dict(), optimizer.state_dict(), sparsifier.state_dict()], file)
    train(net, sparsifier, data[11:], optimizer)

    file.seek(0)
    states = torch.load(file, weights_only=True)
    again, resumed = sparsified(recipe, net=network(seed=5), **options)
    other = torch.optim.AdamW(again.parameters(), lr=1e-2)
    again.load_state_dict(states[0])
    other.load_state_dict(states[1])
    if through == "sparsifier":
        resumed.load_state_dict(states[2])
    assert resumed.steps == 11
    train(again, resumed, data[11:], other)
    assert resumed.phase == sparsifier.phase
    for key, value in net.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    if through == "sparsifier":
        assert resumed.stats().sad == sparsifier.stats().sad


def test_the_sparsifiers_state_alone_restores_masks_and_beta():
    net, sparsifier = sparsified()
    train(net, sparsifier, batches(12))
    again, resumed = sparsified(net=network())
    resumed.load_state_dict(sparsifier.state_dict())
    assert resumed.beta == sparsifier.beta
    share = again[0].parametrizations.weight[0]
    assert float(share.beta) == pytest.approx(sparsifier.beta, rel=1e-6)
    assert torch.equal(share.mask, sparsifier.masks["0"])


def test_a_state_of_other_arguments_is_refused():
    _, one = sparsified("ste")
    _, other = sparsified("ste", n=2)
    with pytest.raises(ValueError, match=r"other arguments \(n: 2, here 1; stages"):
        one.load_state_dict(other.state_dict())


def test_an_optimizer_can_drive_it():
    net, sparsifier = sparsified(total_steps=4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    sparsifier.attach(optimizer)
    for x in batches(4):
        loss_of(net, x).backward()
        optimizer.step()
    assert sparsifier.steps == 4
    sparsifier.finalize()
    optimizer.step()  # the hook is gone


def task():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(96, 64)).astype(np.float32)
    return Task.from_arrays(X[:64], (X[:64, 0] > 0).astype(int), X[64:], (X[64:, 0] > 0).astype(int))


def test_fit_drives_it_and_its_checkpoint_resumes_it(tmp_path):
    recipe = Recipe(epochs=3, batch_size=16, schedule="cosine")
    steps = recipe.n_steps(64)

    def run(epochs_before_interruption=None):
        net, sparsifier = sparsified(total_steps=steps)
        options = {"lr": 1e-2, "checkpoint": tmp_path / "c.pt", "on_step": sparsifier.step}
        if epochs_before_interruption is None:
            fit(net, task(), recipe, **options)
            assert sparsifier.steps == steps
            return net, sparsifier

        def interrupt(done, text):
            if done >= epochs_before_interruption / 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit(net, task(), recipe, progress=interrupt, **options)
        return None

    whole, first = run()
    first.finalize()
    (tmp_path / "c.pt").unlink()
    run(epochs_before_interruption=1)
    resumed, sparsifier = run()
    assert sparsifier.finalize().exact
    for a, b in zip(whole.parameters(), resumed.parameters()):
        assert torch.equal(a, b)


@pytest.mark.parametrize("recipe", ["mdgf-exp", "sr-ste", "sdgf-stepwise"])
def test_a_transformer_under_autocast(recipe):
    net = build_seeded(lambda: vit((1, 8, 8), 3, patch=4, width=32, depth=1, heads=2), 0)
    sparsifier = NMSparsifier(net, 2, 8, recipe, total_steps=4)
    assert list(sparsifier.layers) == ["encoder.blocks.0.mlp.fc1", "encoder.blocks.0.mlp.fc2"]
    optimizer = torch.optim.AdamW(net.parameters())
    for _ in range(4):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = net(torch.randn(4, 1, 8, 8)).float().square().sum()
        loss.backward()
        assert sparsifier.dense_weights["encoder.blocks.0.mlp.fc1"].grad.dtype == torch.float32
        optimizer.step()
        sparsifier.step()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert net(torch.randn(4, 1, 8, 8)).dtype == torch.bfloat16
    assert sparsifier.finalize().exact


def test_bfloat16_models():
    net, sparsifier = sparsified(net=network().bfloat16(), total_steps=4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for x in batches(4):
        loss_of(net, x.bfloat16()).backward()
        optimizer.step()
        sparsifier.step()
    assert sparsifier.finalize().valid


def test_a_moved_model_goes_on():
    net, sparsifier = sparsified("ste", dense_frac=0)
    net.double()
    train(net, sparsifier, [x.double() for x in batches(3)])
    assert sparsifier.masks["0"].dtype == torch.float64


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
def test_models_of_transformers(name):
    transformers = pytest.importorskip("transformers")
    ids = torch.randint(0, 50, (2, 6))
    if name == "bert":
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        net = transformers.BertModel(transformers.BertConfig(vocab_size=50, **sizes))
        inputs, width = {"input_ids": ids}, 16
        names = ["encoder.layer.0.intermediate.dense", "encoder.layer.0.output.dense"]
    elif name == "gpt2":
        sizes = {"n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2}
        net = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=50, **sizes))
        inputs, width = {"input_ids": ids}, 16
        names = ["transformer.h.0.mlp.c_fc", "transformer.h.0.mlp.c_proj"]
    else:
        sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
        config = transformers.T5Config(vocab_size=50, decoder_start_token_id=0, pad_token_id=0, **sizes)
        net = transformers.T5ForConditionalGeneration(config)
        inputs, width = {"input_ids": ids, "labels": ids}, 16
        side = ("encoder.block.0.layer.1", "decoder.block.0.layer.2")
        names = [f"{place}.DenseReluDense.{layer}" for place in side for layer in ("wi", "wo")]
    sparsifier = NMSparsifier(net, 1, 8, total_steps=3, dense_frac=0)
    assert list(sparsifier.layers) == names
    optimizer = torch.optim.AdamW(net.parameters())
    for _ in range(3):
        output = net(**inputs)
        (output.last_hidden_state if name == "bert" else output.logits).square().mean().backward()
        optimizer.step()
        sparsifier.step()
    assert sparsifier.finalize().exact
    weight = net.get_submodule(names[0]).weight
    rows = weight if name != "gpt2" else weight.T  # its layer keeps (in, out)
    assert rows.shape[1] == width
    assert bool(((rows.reshape(-1, 8) != 0).sum(1) == 1).all())


def test_statistics():
    net, sparsifier = sparsified("mdgf-linear", dense_frac=0.25, finetune_frac=0)
    stats = sparsifier.stats()
    assert (stats.phase, stats.kept, stats.density) == ("dense", 1, 1)
    assert math.isnan(stats.sad)
    train(net, sparsifier, batches(5))
    assert sparsifier.stats().sad == 0
    first = {name: mask.bool() for name, mask in sparsifier.masks.items()}
    train(net, sparsifier, batches(7))
    stats = sparsifier.stats()
    assert (stats.step, stats.phase, stats.n, stats.m) == (12, "sparse", 1, 8)
    assert stats.kept == 1 / 8
    assert stats.density == pytest.approx(1 / 8 + stats.beta * 7 / 8)
    changed = [float((first[k] != sparsifier.masks[k].bool()).double().mean()) for k in first]
    assert stats.sad == pytest.approx(np.mean(changed))
    assert 0 < stats.churn <= stats.sad
    assert list(stats.to_frame().layer) == ["0", "2"]
    assert "1:8" in str(stats)
    assert len(stats.plot().patches) == 2
    sparsifier.mark_reference()
    assert sparsifier.stats().sad == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"m": 5}, r"groups of 5 do not divide the input channels of '0' \(64\), '2' \(64\)"),
        ({"m": 3, "dim": "out"}, "output channels of '0'"),
        ({"n": 8}, "n must be below m"),
        ({"backward": "hard"}, "'ste', 'masked'"),
        ({"recipe": "sr-ste", "backward": "masked"}, "rule of its own"),
        ({"dim": "rows"}, "'in', 'out'"),
        ({"targets": ["fc9"]}, "matches no Linear"),
        ({"update_every": 0}, "update_every must be at least 1"),
        ({"lambda_w": -1.0}, "lambda_w must be at least 0"),
        ({"indivisible": "pad"}, "'error', 'skip'"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sparsified(**options)


def test_layers_that_do_not_divide_may_be_left_dense():
    net = build_seeded(lambda: mlp([64, 20, 3]), 0)
    sparsifier = NMSparsifier(net, 1, 8, targets="all", total_steps=5, indivisible="skip")
    assert (list(sparsifier.layers), sparsifier.skipped) == (["0"], ("2",))
    with pytest.raises(ValueError, match="divide none of the layers"):
        NMSparsifier(
            build_seeded(lambda: fc(10, 2), 0), 1, 7, targets="all", total_steps=5, indivisible="skip"
        )


def test_weights_that_are_nan_leave_the_model_as_it_was():
    net = network()
    net[0].weight.data[0, 0] = math.nan
    for make in (
        lambda: NMSparsifier(net, 2, 4, "ste", total_steps=4, targets="all", dense_frac=0),
        lambda: MagnitudePruner(net, 0.5, total_steps=4, targets="all"),
    ):
        with pytest.raises(ValueError, match="'0' holds NaN"):
            make()
    assert not any(hasattr(layer, "parametrizations") for layer in net)
