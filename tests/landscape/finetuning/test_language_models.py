"""Models of the transformers library inside subspaces, its trainer, checkpointing, and PEFT at equal size."""

import pytest
import torch
from torch import nn

from lodim.landscape import SubspaceModule, TaskVector, compare_adapters
from lodim.randomness import build_seeded
from lodim.training import Recipe, Task

transformers = pytest.importorskip("transformers")

SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 40,
    "max_position_embeddings": 12, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip


def bert(num_labels=2):
    config = transformers.BertConfig(num_labels=num_labels, **SIZES)
    return build_seeded(lambda: transformers.BertForSequenceClassification(config), 0)


def masked():
    config = transformers.BertConfig(**SIZES)
    return build_seeded(lambda: transformers.BertForMaskedLM(config), 0)


def moved(subspace):
    with torch.no_grad():
        subspace.theta_d.copy_(torch.randn(subspace.d, generator=torch.Generator().manual_seed(0)))
    return subspace


def batch(n=6):
    rng = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 40, (n, 8), generator=rng)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0] % 2}


def test_keywords_go_in_and_the_models_own_output_comes_out():
    subspace, inputs = moved(SubspaceModule(bert().eval(), 60, said="layer")), batch()
    out = subspace(**inputs)
    assert type(out).__name__ == "SequenceClassifierOutput"
    expected = subspace.materialize()(**inputs)
    torch.testing.assert_close(out.logits, expected.logits)
    out.loss.backward()
    assert float(subspace.theta_d.grad.abs().sum()) > 0
    assert {"bert.encoder.layer.0", "bert.encoder.layer.1", "classifier"} <= set(subspace.layer_scales_)


def test_tied_embeddings_count_once_and_share_a_factor():
    model = masked()
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    subspace = moved(SubspaceModule(model.eval(), 60, said="tensor"))
    assert sum(p.numel() for p in model.parameters()) == subspace.D
    assert len(subspace.layer_scales_) == len(list(model.parameters()))
    plain = subspace.materialize()
    assert plain.cls.predictions.decoder.weight is plain.bert.embeddings.word_embeddings.weight
    ids = batch()["input_ids"]
    torch.testing.assert_close(subspace(input_ids=ids).logits, plain(input_ids=ids).logits)
    vector, base = TaskVector.from_subspace(subspace), masked().eval()
    assert vector.outside == {}  # the buffers of position numbers are constants
    with vector.on(base):
        assert torch.equal(base(input_ids=ids).logits, plain(input_ids=ids).logits)
    assert torch.equal(base(input_ids=ids).logits, masked().eval()(input_ids=ids).logits)


@pytest.mark.parametrize("make", [bert, masked])
def test_checkpointing_gives_the_same_gradient(make):
    inputs = batch()
    if make is masked:
        inputs["labels"] = inputs["input_ids"]
    plain, saving = (moved(SubspaceModule(make().train(), 60, said="layer")) for _ in range(2))
    saving.gradient_checkpointing_enable()
    for subspace in (plain, saving):
        subspace(**inputs).loss.backward()
    torch.testing.assert_close(saving.theta_d.grad, plain.theta_d.grad)


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 24

    def __getitem__(self, i):
        return {name: value[i % 6] for name, value in batch().items()}


@pytest.mark.slow
def test_the_trainer_trains_the_numbers(tmp_path):
    pytest.importorskip("accelerate")
    subspace = SubspaceModule(bert(), 60, said="layer")
    before = subspace.theta0.clone()
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=60, per_device_train_batch_size=6, learning_rate=0.3, report_to=[],
        save_strategy="no", remove_unused_columns=False, label_names=["labels"], use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    first = float(subspace(**batch()).loss.detach())
    transformers.Trainer(model=subspace, args=arguments, train_dataset=Rows()).train()
    assert float(subspace.eval()(**batch()).loss.detach()) < 0.5 * first
    assert torch.equal(subspace.theta0, before)
    assert float(subspace.theta_d.detach().abs().sum()) > 0


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh())
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.body(x))


@pytest.mark.trains
def test_adapters_and_subspaces_of_equal_size():
    pytest.importorskip("peft")
    X = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
    task = Task(X[:200], y[:200], X[200:], y[200:], "classification", 3)
    found = compare_adapters(
        Encoder, task, recipe=Recipe(epochs=4, batch_size=40), lrs=(3e-2, 1e-1), said="layer"
    )
    by_budget = {}
    for run in found.runs:
        by_budget.setdefault(run.budget, []).append(run)
    assert set(by_budget) == {"LoRA r=1", "VeRA"}
    lora = (6 + 12) + (12 + 12) + 39  # rank 1 on two layers, and the head
    vera = (64 + 12) + (64 + 12) + 39
    for name, size in (("LoRA r=1", lora), ("VeRA", vera)):
        assert [run.method for run in by_budget[name]] == [name, "DID", "SAID"]
        assert {run.n_trained for run in by_budget[name]} == {size}
    assert min(run.score for run in found.runs) > 0.6  # the most frequent of the classes is half
    assert list(found.to_frame().columns) == ["budget", "method", "n_trained", "score", "lr"]
    assert "SAID" in str(found)
