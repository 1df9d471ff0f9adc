"""The rows of one attribute: each way's figures, drift and costs.

Figures of prompt and modules are those of the table figures_seeds; intervals of coherence, which it lacks, come from the
stored judgements. Adapters are measured here. All are at the prompt's coherence (TA@Cp).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psr.errors import PsrError
from psr.evaluation.alpha_search import Scores
from psr.evaluation.bootstrap import Figure, Interval, matched, plain_mean
from psr.fitting.methods import parse_method
from psr.fitting.methods.named import plug_of
from psr.fitting.presets import package
from psr.types import INSTRUCTED, Method
from tasks.engine.cells import Cells
from tasks.engine.files import read_json, write_json
from tasks.figures.entries import known
from tasks.steps.distill import Fit, fit_settings
from tasks.studies.adaptation.adapters import ALPHAS, SETTINGS, scores_of_adapter, timed_fit
from tasks.studies.adaptation.material import Case
from tasks.studies.bench.material import machine
from tasks.tables.modules import rows_of_seed
from tasks.tables.parquet import read_table

if TYPE_CHECKING:
    from psr.evaluation.drift import Drift

Row = dict[str, Any]
MODULES = (("a-psr-mse-qr", "a-psr-mse-r"), ("s-psr-mse-qr", "s-psr-mse-r"))  # of each pair the first that was fitted
COSTS = ("parameters", "fit_seconds", "epochs", "bytes", "extra_tokens", "per_row")


def rows_of(case: Case, cells: Cells) -> list[Row]:
    """One row for each way: the prompt, A-PSR MSE, S-PSR MSE where there is one, LoRA, full fine-tuning."""
    facts = {name: value for name, value in machine(case.lm).items() if name in ("device", "threads", "model")}
    rows = [
        prompt_row(case),
        *(module_row(case, row) for row in chosen_modules(case)),
        *(adapter_row(case, slug, cells) for slug in SETTINGS),
    ]
    shared = {"attribute": case.attribute.key, "seed": case.seed, "triplets": len(case.material.triplets)}
    return [{**shared, **facts, **row} for row in rows]


def chosen_modules(case: Case) -> list[Row]:
    """The modules to compare, as rows of the table modules. Raises PsrError without an A-PSR MSE."""
    fitted = {row["method"]: row for row in rows_of_seed(case.data / "distill", case.attribute.key, case.seed)}
    modules = [next((fitted[slug] for slug in slugs if slug in fitted), None) for slugs in MODULES]
    if modules[0] is None:
        raise PsrError(
            "the comparison needs an all-layer PSR module",
            where=case.data / "distill",
            expected=" or ".join(MODULES[0]),
            got=", ".join(fitted) or "none",
            do="Add it to params.yaml and reproduce.",
        )
    return [row for row in modules if row is not None]


def prompt_row(case: Case) -> Row:
    """The row of the instruction: nothing to fit, its text to store, and extra tokens in every request."""
    from psr.evaluation.drift import prompt_drift
    from psr.lm.chats import encode_chat

    pairs, side = case.evaluation.pairs, case.evaluation
    lengths = [
        [len(encode_chat(case.lm.tokenizer, chat).ids) for chat in (pair.instructed, pair.plain)] for pair in pairs
    ]
    coherence = plain_mean(*(side.mean(INSTRUCTED, "coherence"),) * 2, **case.bootstrap)
    size = sum(len(pair.instruction.encode()) for pair in pairs) / len(pairs)
    return {
        "method": "prompt",
        "name": "prompt",
        **stored(case, "prompt"),
        **interval("coherence", coherence),
        **drifted(case, prompt_drift(case.lm, case.unrelated)),
        **costs(0, 0.0, None, round(size), sum(long - short for long, short in lengths) / len(pairs), True),
    }


def module_row(case: Case, fitted: Row) -> Row:
    """The row of a module at its α. It is fitted again for its seconds, which include recording activations."""
    from psr.evaluation.drift import module_drift
    from psr.steering.module import load_module

    folder = case.data / "distill" / fitted["folder"]
    module, figures = load_module(folder), stored(case, fitted["method"])
    search_scores, scores = case.search.scores(module.id), case.evaluation.scores(module.id)
    drift = module_drift(case.lm, case.unrelated, module, figures["alpha"])
    method = Method.of(fitted)
    changes = {**case.settings["distill"], "seed": case.seed}
    settings = fit_settings(plug_of(method), changes, package(case.attribute.benchmark))
    _, seconds = timed_fit(case, method, module.layers, settings, module.id)
    size = sum(tensor.numel() for tensor in module.tensors.values())
    return {
        "method": fitted["method"],
        "name": method.name,
        **figures,
        **interval("coherence", coherence_at(case, search_scores, scores)),
        **drifted(case, drift),
        **costs(size, seconds, settings.epochs if settings else 0, weights_bytes(folder), 0.0, True),
    }


def adapter_row(case: Case, slug: str, cells: Cells) -> Row:
    """The row of LoRA or full fine-tuning at the strength that the search questions choose; a cell, with its weights."""
    from psr.evaluation.drift import adapter_drift
    from psr.steering.adapter import save_adapter

    method, settings = parse_method(slug), replace(SETTINGS[slug], seed=case.seed)
    fit = Fit(case.material, method, (), settings, case.seed)

    def write(folder: Path) -> None:
        adapter, seconds = timed_fit(case, method, (), settings, fit.id)
        save_adapter(adapter, folder)
        search_scores, scores = scores_of_adapter(case, adapter)
        figure = matched(search_scores, case.search.mean(INSTRUCTED, "coherence"), scores, "Cp", **case.bootstrap)
        drift = adapter_drift(case.lm, case.unrelated, adapter, figure.alpha or 0.0)
        row = {
            "method": slug,
            "name": method.name,
            "alpha": figure.alpha,
            "reached": figure.reached,
            "n": figure.n,
            **interval("trait", figure),
            **interval("coherence", coherence_at(case, search_scores, scores)),
            **drifted(case, drift),
            **costs(adapter.size, seconds, settings.epochs, weights_bytes(folder), 0.0, False),
        }
        write_json(folder / "row.json", row)

    reads = (slug, machine(case.lm), fit.id, case.material.content, ALPHAS, case.reads)
    return read_json(cells.keep("adaptation", reads, write) / "row.json")


def stored(case: Case, method: str) -> Row:
    """Trait alignment at the prompt's coherence, and its α, from the table figures_seeds. Raises PsrError without them."""
    rows = read_table(case.data / "results" / "figures_seeds.parquet", "figures_seeds")
    wanted = (case.attribute.key, method, case.seed, "ta_cp")
    row = next((row for row in rows if (row["attribute"], row["method"], row["seed"], row["figure"]) == wanted), None)
    if row is None:
        raise PsrError(
            "a method has no figure",
            where=case.data / "results",
            expected=f"{method} of {case.attribute.key}",
            got="none",
            do="Reproduce the profile again.",
        )
    trait = {"trait": row["value"], "trait_low": row["low"], "trait_high": row["high"]}
    return {"alpha": row["alpha"], "reached": row["reached"], "n": row["n"], **trait}


def coherence_at(case: Case, search_scores: Scores, scores: Scores) -> Figure:
    """Coherence at the chosen α, its interval repeating the choice: as the trait's figure, of coherence."""
    coherence = Scores(scores.alphas, scores.coherence, scores.coherence)
    return matched(search_scores, case.search.mean(INSTRUCTED, "coherence"), coherence, "Cp", **case.bootstrap)


def drifted(case: Case, drift: Drift) -> Row:
    """Columns of drift: nats per token with its interval, and the number of answers."""
    return {**interval("drift", drift.per_token(**case.bootstrap)), "drift_answers": len(drift.nats)}


def interval(name: str, figure: Figure | Interval) -> Row:
    """Three columns: a value and the ends of its interval."""
    return {name: known(figure.value), f"{name}_low": known(figure.low), f"{name}_high": known(figure.high)}


def costs(*values: float | None) -> Row:
    """The columns COSTS."""
    return dict(zip(COSTS, values, strict=True))


def weights_bytes(folder: Path) -> int:
    """Size of the folder's safetensors."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
