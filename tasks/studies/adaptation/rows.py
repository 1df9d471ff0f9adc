"""The table's rows of one attribute: what each way of adapting reaches, what it changes elsewhere, and what it costs.

Figures of prompt and modules are those of the table headline_seeds; what it lacks, the intervals of coherence, comes from
the stored judgements. Adapters are measured here. All are at the prompt's coherence (TA@Cp).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psr.errors import PsrError
from psr.evaluation.alpha_search import Scores
from psr.evaluation.bootstrap import Figure, Interval, matched, plain_mean
from psr.fitting.methods import parse_method
from psr.types import INSTRUCTED
from tasks.engine.progress import progress
from tasks.figures.entries import known
from tasks.steps.distill import fit_settings
from tasks.studies.adaptation.adapters import SETTINGS, Fit, aligned, answered, fit_adapter
from tasks.studies.adaptation.material import Case
from tasks.tables.modules import rows_of_seed
from tasks.tables.parquet import read_table

if TYPE_CHECKING:
    from psr.evaluation.drift import Drift
    from psr.steering.module import SteeringModule

Row = dict[str, Any]
MODULES = (("a-psr-mse-qr", "a-psr-mse-r"), ("s-psr-mse-qr", "s-psr-mse-r"))  # of each pair the first that was fitted


def rows_of(case: Case) -> list[Row]:
    """A row a way: the prompt, A-PSR MSE, S-PSR MSE where there is one, LoRA, full fine-tuning."""
    from tasks.studies.bench.material import machine

    facts = {name: value for name, value in machine(case.lm).items() if name in ("device", "threads", "model")}
    found = [
        prompt_row(case),
        *(module_row(case, row) for row in chosen_modules(case)),
        *(adapter_row(case, fit_adapter(case, slug)) for slug in SETTINGS),
    ]
    shared = {"attribute": case.attribute.key, "seed": case.told.seed, "triplets": len(case.triplets), **facts}
    return [{**shared, **row} for row in found]


def chosen_modules(case: Case) -> list[Row]:
    """Rows of the table modules. Raises PsrError when the profile fitted no A-PSR MSE."""
    fitted = {row["method"]: row for row in rows_of_seed(case.data / "distill", case.attribute.key, case.told.seed)}
    found = [next((fitted[slug] for slug in slugs if slug in fitted), None) for slugs in MODULES]
    if found[0] is None:
        raise PsrError(
            "the comparison needs an all-layer PSR module",
            where=case.data / "distill",
            expected=" or ".join(MODULES[0]),
            got=", ".join(fitted) or "none",
            do="Add it to params.yaml and reproduce.",
        )
    return [row for row in found if row is not None]


def prompt_row(case: Case) -> Row:
    """The instruction: nothing to fit, text to ship, and tokens that every request pays for."""
    from psr.evaluation.drift import prompt_drift
    from psr.lm.chats import encode_chat

    pairs, side = case.evaluation.pairs, case.evaluation
    lengths = [
        [len(encode_chat(case.lm.tokenizer, chat).ids) for chat in (pair.instructed, pair.plain)] for pair in pairs
    ]
    coherence = plain_mean(*(side.mean(INSTRUCTED, "coherence"),) * 2, **case.told.results)
    size = sum(len(pair.instruction.encode()) for pair in pairs) / len(pairs)
    return {
        "method": "prompt",
        "name": "prompt",
        **stored(case, "prompt"),
        **interval("coherence", coherence),
        **drifted(case, prompt_drift(case.lm, case.unrelated)),
        **costs(0, 0.0, None, round(size), sum(told - plain for told, plain in lengths) / len(pairs), True),
    }


def module_row(case: Case, fitted: Row) -> Row:
    """A module of the profile at its α, fitted again for its seconds alone: those of the stage lie in its cached activations."""
    from psr.evaluation.drift import module_drift
    from psr.steering.module import load_module

    folder = case.data / "distill" / fitted["folder"]
    module, figures = load_module(folder), stored(case, fitted["method"])
    looked, taken = case.search.scores(module.id), case.evaluation.scores(module.id)
    drift = module_drift(case.lm, case.unrelated, module, figures["alpha"])
    seconds, epochs = refit_seconds(case, module)
    size = sum(tensor.numel() for tensor in module.tensors.values())
    return {
        "method": fitted["method"],
        "name": parse_method(fitted["method"]).name,
        **figures,
        **interval("coherence", coherence_at(case, looked, taken)),
        **drifted(case, drift),
        **costs(size, seconds, epochs, weights_bytes(folder), 0.0, True),
    }


def adapter_row(case: Case, fit: Fit) -> Row:
    """LoRA or full fine-tuning at the strength a that the search questions choose."""
    from psr.evaluation.drift import adapter_drift
    from psr.steering.adapter import save_adapter

    slug = fit.method.slug
    folder = save_adapter(
        fit.adapter, case.data / "adaptation" / "adapters" / case.attribute.key.replace("/", "-") / slug
    )
    looked, taken = answered(case, fit.adapter)
    figure = matched(looked, case.search.mean(INSTRUCTED, "coherence"), taken, "Cp", **case.told.results)
    drift = adapter_drift(case.lm, case.unrelated, fit.adapter, figure.alpha or 0.0)
    return {
        "method": slug,
        "name": fit.method.name,
        "alpha": figure.alpha,
        "reached": figure.reached,
        "n": figure.n,
        **interval("trait", figure),
        **interval("coherence", coherence_at(case, looked, taken)),
        **drifted(case, drift),
        **costs(fit.adapter.size, fit.seconds, fit.settings.epochs, weights_bytes(folder), 0.0, False),
    }


def stored(case: Case, method: str) -> Row:
    """Trait alignment at the prompt's coherence, and its α, as the table headline_seeds has them."""
    rows = read_table(case.data / "results" / "headline_seeds.parquet", "headline_seeds")
    found = [
        row
        for row in rows
        if (row["attribute"], row["method"], row["seed"]) == (case.attribute.key, method, case.told.seed)
    ]
    if not found:
        raise PsrError(
            "a method has no figure",
            where=case.data / "results",
            expected=f"{method} of {case.attribute.key}",
            got="none",
            do="Reproduce the profile again.",
        )
    row = found[0]
    return {
        "alpha": row["alpha_cp"],
        "reached": row["reached_cp"],
        "n": row["n"],
        "trait": row["ta_cp"],
        "trait_low": row["ta_cp_low"],
        "trait_high": row["ta_cp_high"],
    }


def coherence_at(case: Case, looked: Scores, taken: Scores) -> Figure:
    """Coherence at the chosen α, its interval repeating the choice: the trait's figure with coherence in its place."""
    told = Scores(taken.alphas, taken.coherence, taken.coherence)
    return matched(looked, case.search.mean(INSTRUCTED, "coherence"), told, "Cp", **case.told.results)


def refit_seconds(case: Case, module: SteeringModule) -> tuple[float, int]:
    """Seconds and epochs of the module's fit with the profile's settings, the recording of its targets included."""
    from psr.fitting.learning import learn

    method = parse_method(str(module.origin["method"]))
    settings = fit_settings(method, {**case.told.distill, "seed": case.told.seed}, case.attribute.benchmark)
    examples, epochs = aligned(case, method), settings.epochs if settings else 0
    with progress(f"adapt {case.attribute.key} {method.name}", epochs * len(examples), "examples") as advance:
        began = time.perf_counter()
        learn(case.lm, examples, method, module.layers, settings, module_id=module.id, progress=advance)
        return time.perf_counter() - began, epochs


def drifted(case: Case, drift: Drift) -> Row:
    """Nats a token, and over how many answers."""
    return {**interval("drift", drift.per_token(**case.told.results)), "drift_answers": len(drift.nats)}


def interval(name: str, figure: Figure | Interval) -> Row:
    """A value and its ends as three columns."""
    return {name: known(figure.value), f"{name}_low": known(figure.low), f"{name}_high": known(figure.high)}


def costs(parameters: int, seconds: float, epochs: int | None, size: int, extra: float, per_row: bool) -> Row:
    """What a way costs, as columns."""
    return {
        "parameters": parameters,
        "fit_seconds": seconds,
        "epochs": epochs,
        "bytes": size,
        "extra_tokens": extra,
        "per_row": per_row,
    }


def weights_bytes(folder: Path) -> int:
    """Size of the folder's safetensors."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
