"""Read-outs of token strengths against least squares of numpy, and gates where only a gate can be right."""

import numpy as np
import pytest
import torch

from psr.errors import PsrError
from psr.evaluation.readability import r_squared, read_out
from psr.evaluation.resampling import once, resample

A = torch.randn(2, 400, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
W, B = torch.tensor([[1.0, -2.0, 0.5, 0.0], [0.3, 0.0, 1.0, 2.0]]).double(), torch.tensor([0.7, -1.0]).double()
EXACT = (A @ W.unsqueeze(-1)).squeeze(-1) + B.unsqueeze(-1)


def sums(read, lam, halves=slice(200, 400)):
    """errors, Σ λ, Σ λ² and tokens per question, four questions of 50 tokens."""
    true, said = lam[:, halves], read(A[:, halves])
    per = lambda x: x.reshape(2, 4, 50).sum(-1).numpy()  # noqa: E731
    return per((true - said) ** 2), per(true), per(true**2), np.full(4, 50.0)


def test_a_linear_read_out_is_ridge_regression():
    noise = torch.randn(2, 400, generator=torch.Generator().manual_seed(1)).double()
    read = read_out(A, EXACT + noise, "linear", ridge=0.1)
    for layer in range(2):
        X = A[layer].numpy() - A[layer].numpy().mean(0)
        y = (EXACT + noise)[layer].numpy()
        penalty = 0.1 * np.trace(X.T @ X) / 4 * np.eye(4)
        w = np.linalg.solve(X.T @ X + penalty, X.T @ (y - y.mean()))
        assert read.w[layer].numpy() == pytest.approx(w)
        assert float(read.b[layer]) == pytest.approx(y.mean() - A[layer].numpy().mean(0) @ w)


def test_a_gate_reads_what_a_gate_made_and_a_line_cannot():
    lam = torch.relu(EXACT - 1)
    gate, line = (
        r_squared(*sums(read_out(A[:, :200], lam[:, :200], reader, ridge=1e-9), lam), once(4))[0]
        for reader in ("gate", "linear")
    )
    assert gate == pytest.approx([1.0, 1.0], abs=1e-6)
    assert (line < 0.95).all()


def test_a_gate_is_never_worse_than_the_closed_line_it_starts_from():
    lam = torch.randn(2, 400, generator=torch.Generator().manual_seed(2)).double()
    line, gate = (read_out(A, lam, reader) for reader in ("linear", "gate"))
    closed = torch.relu((A @ line.w.unsqueeze(-1)).squeeze(-1) + line.b.unsqueeze(-1))
    assert ((gate(A) - lam).square().sum(-1) <= (closed - lam).square().sum(-1) + 1e-9).all()


def test_r_squared_is_taken_about_the_mean_of_the_drawn_tokens():
    lam = torch.relu(EXACT)
    read = read_out(A[:, :200], lam[:, :200], "linear")
    counts = resample(4, 6, 0, 0)
    found = r_squared(*sums(read, lam), counts)
    for r in range(6):
        tokens = [200 + 50 * q + t for q in range(4) for _ in range(int(counts[r, q])) for t in range(50)]
        true, said = lam[1, tokens].numpy(), read(A[:, tokens])[1].numpy()
        assert found[r, 1] == pytest.approx(1 - ((true - said) ** 2).sum() / ((true - true.mean()) ** 2).sum())


def test_the_same_strength_on_every_token_has_an_r_squared_of_zero_at_most():
    lam = torch.relu(EXACT)
    mean = lam.mean(1, keepdim=True)
    assert (r_squared(*sums(lambda x: mean.expand(-1, x.shape[1]), lam), once(4)) <= 1e-12).all()


def test_what_cannot_be_read_is_refused_or_has_no_figure():
    with pytest.raises(PsrError, match="at least two a layer"):
        read_out(A[:, :1], EXACT[:, :1], "linear")
    with pytest.raises(PsrError, match="one per activation"):
        read_out(A, EXACT[:, :5], "linear")
    flat = torch.ones_like(EXACT)
    assert np.isnan(r_squared(*sums(read_out(A, flat, "linear"), flat), once(4))).all()


def test_many_wide_layers_are_read_on_two_threads_as_each_alone():
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(30, 60, 576, generator=generator)
    lam = torch.randn(30, 60, generator=generator)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        read = read_out(A, lam, "linear")
    finally:
        torch.set_num_threads(threads)
    for layer in (0, 29):
        alone = read_out(A[layer : layer + 1], lam[layer : layer + 1], "linear")
        assert torch.allclose(read.w[layer], alone.w[0], rtol=1e-6, atol=1e-12)
