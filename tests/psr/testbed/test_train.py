from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest
import torch

from psr.testbed.tokenizer import build_tokenizer
from psr.testbed.train import IGNORED, TrainSettings, answer_loss, batches, fresh_model, rate, train

TOKENIZER = build_tokenizer()
SMALL = TrainSettings(steps=3, batch_size=4, warmup=1)


def test_labels_are_the_answer_and_its_end_and_nothing_else() -> None:
    batch = next(batches(TOKENIZER, SMALL))
    assistant = TOKENIZER.convert_tokens_to_ids("<|assistant|>")
    for ids, labels in zip(batch.ids.tolist(), batch.labels.tolist(), strict=True):
        first = ids.index(assistant)
        wanted = [label for label in labels if label != IGNORED]
        assert labels[:first] == [IGNORED] * first
        assert wanted[-1] == TOKENIZER.eos_token_id
        assert wanted[:-1] == ids[first + 1 : first + len(wanted)]
        assert wanted.count(TOKENIZER.eos_token_id) == 1


def test_the_loss_is_the_mean_over_answer_tokens_of_minus_log_p() -> None:
    model, batch = fresh_model(TOKENIZER, 0).eval(), next(batches(TOKENIZER, SMALL))
    logs = model(input_ids=batch.ids).logits.log_softmax(-1)
    places = (batch.labels != IGNORED).nonzero().tolist()
    expected = -sum(logs[row, token, batch.labels[row, token]] for row, token in places) / len(places)
    assert answer_loss(model, batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_padding_on_the_right_does_not_enter_the_loss() -> None:
    model, batch = fresh_model(TOKENIZER, 0).eval(), next(batches(TOKENIZER, SMALL))
    wider = replace(
        batch,
        ids=torch.nn.functional.pad(batch.ids, (0, 7), value=TOKENIZER.pad_token_id),
        labels=torch.nn.functional.pad(batch.labels, (0, 7), value=IGNORED),
    )
    assert answer_loss(model, wider).item() == pytest.approx(answer_loss(model, batch).item(), rel=1e-5)


def test_the_same_seed_trains_the_same_model_and_another_seed_another() -> None:
    first, second, other = (train(TOKENIZER, replace(SMALL, seed=seed)).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_training_lowers_the_loss_and_reports_every_step() -> None:
    seen: list[tuple[int, float]] = []
    settings = TrainSettings(steps=8, batch_size=8, warmup=2)
    model = train(TOKENIZER, settings, progress=lambda step, loss: seen.append((step, loss)))
    assert [step for step, _ in seen] == list(range(1, 9))
    assert seen[-1][1] < seen[0][1] - 0.2
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    settings = TrainSettings(steps=100, warmup=10)
    assert rate(0, settings) == pytest.approx(0.1)
    assert rate(9, settings) == pytest.approx(1)
    assert rate(55, settings) == pytest.approx(0.5)
    assert rate(99, settings) < 0.001
    rates = [rate(step, settings) for step in range(10, 100)]
    assert rates == sorted(rates, reverse=True)


def test_batches_are_fresh_and_rows_of_like_length_come_together() -> None:
    drawn = list(islice(batches(TOKENIZER, TrainSettings(steps=1, batch_size=16)), 16))
    assert len({tuple(row) for batch in drawn for row in batch.ids.tolist()}) > 250
    padded = sum((batch.ids == TOKENIZER.pad_token_id).sum().item() for batch in drawn)
    assert padded / sum(batch.ids.numel() for batch in drawn) < 0.1
