"""A small finished profile, made without a model: two attributes, four methods, every table that the stages write."""

from collections.abc import Iterable
from pathlib import Path

from psr.fitting.methods import BY_SLUG
from psr.judges.llm import Answer
from psr.types import Completion, CurvePoint, Dropped, Judgement, Method, PromptPair, Triplet, short_hash
from tasks.asking.kept import KeptAnswers
from tasks.benchmarks.catalogue import BENCHMARKS, benchmark_named
from tasks.steps.results import measure_rows, published_rows
from tasks.tables import parquet as tables
from tasks.tables.judge_answers import FILE

MODEL = "0123456789abcdef"
ATTRIBUTES = ("persona/gloomy", "persona/pirate")
SLUGS = ("s-const-dim-r", "a-psr-mse-qr")
TA_CP = {"plain": 1.0, "prompt": 95.0, "s-const-dim-r": 20.0, "a-psr-mse-qr": 93.0}
JUDGE_ANSWER = Answer(
    "a",
    "openai:judge-1",
    "persona-text-1",
    "trait",
    "judge-1",
    "hash",
    "Score: [[80]]",
    80.0,
    "",
    90,
    6,
    "2026-01-01T00:00:00+00:00",
)
LAYERS = {"s-const-dim-r": (2,), "a-psr-mse-qr": (0, 1, 2)}


def module_id(attribute: str, slug: str) -> str:
    return short_hash("module", attribute, slug)


def pairs(attribute: str, question_set: str) -> list[PromptPair]:
    return [
        PromptPair(attribute, f"Tell me about {topic} ({question_set}).", f"Be {attribute.split('/')[1]}.")
        for topic in ("tea", "ice")
    ]


def answer(pair: PromptPair, method: str, alpha: float, text: str) -> Completion:
    return Completion(pair.id, method, alpha, 7, MODEL, "t1.0-n64", (5, 6, 7), text, True)


def verdicts(completion: Completion, trait: float | None, coherence: float = 97.0) -> list[Judgement]:
    error = "" if trait is not None else "the judge gave no number"
    return [
        Judgement(completion.id, "testbed", "1", "trait", trait, 100.0, "", error),
        Judgement(completion.id, "testbed", "1", "coherence", coherence, 100.0),
    ]


def write_results(
    root: Path,
    profile: str = "quick",
    text: str = "Arr, ice is cold, matey.",
    *,
    adapters: bool = False,
    suite: bool = True,
) -> Path:
    """Write data/{profile} under `root`, and an answer of a judge; steered answers say `text`. With `adapters` the modules' files
    too, and without `suite` no figures of format instructions and concepts."""
    data = root / "data" / profile
    _write_fitting(data)
    _write_search(data)
    _write_steering(data, text)
    _write_results(data)
    _write_faithfulness(data)
    tables.write_table(
        data / "bench/bench.parquet", "bench", [bench_row("generate", 0.95), bench_row("fit-floor", 0.8, "missed")]
    )
    KeptAnswers(root / FILE)["a"] = JUDGE_ANSWER
    tables.write_table(data / "claims/claims.parquet", "claims", [claim_row()])
    tables.write_table(
        data / "adaptation/adaptation.parquet",
        "adaptation",
        [adaptation_row("prompt"), adaptation_row("full-ll", per_row=False)],
    )
    tables.write_table(data / "ablation/ablation.parquet", "ablation", [ablation_row(key) for key in ATTRIBUTES])
    tables.write_table(data / "side_effects/side_effects.parquet", "side_effects", side_effect_rows())
    _write_agreement(data)
    write_suite(data, suite)
    if adapters:
        _write_adapters(data)
    return data


def bench_row(name: str, median: float, verdict: str | None = "met", device: str = "cpu") -> dict[str, object]:
    return {
        "name": name,
        "measured": f"{name}: a/s",
        "against": "b/s",
        "goal": None if verdict is None else "≥ 0.9",
        "median": median,
        "low": median - 0.1,
        "high": median + 0.1,
        "n": 5,
        "verdict": verdict,
        "note": "1 against 2 ms",
        "device": device,
        "cores": 2,
        "threads": 2,
        "torch": "2.13.0",
        "dtype": "float32",
        "model": MODEL,
    }


def claim_row() -> dict[str, object]:
    return {
        "claim": 4,
        "says": "PSR is at least the prompt",
        "part": "persona",
        "compared": "TA@Cp",
        "published": 12.3,
        "value": -2.0,
        "low": -4.0,
        "high": 1.0,
        "cp2": -1.5,
        "cp2_low": -3.5,
        "cp2_high": 0.5,
        "margin": -3.0,
        "unit": "points",
        "why": "what is as good",
        "verdict": "undecided",
        "claim_verdict": "undecided",
        "seeds": 1,
        "attributes": 2,
        "which": ", ".join(ATTRIBUTES),
        "note": "1 seed: goal 5",
        "sql": "select 1",
    }


def adaptation_row(method: str, attribute: str = ATTRIBUTES[0], **values: object) -> dict[str, object]:
    figures = {
        f"{name}{end}": value + step
        for name, value in (("trait", 90.0), ("coherence", 97.0), ("drift", 1.5))
        for end, step in (("", 0.0), ("_low", -1.0), ("_high", 1.0))
    }
    return {
        "attribute": attribute,
        "method": method,
        "name": method.upper(),
        "seed": 123,
        "alpha": None,
        "reached": True,
        **figures,
        "n": 2,
        "drift_answers": 4,
        "parameters": 1542,
        "fit_seconds": 2.5,
        "epochs": 7,
        "bytes": 6400,
        "extra_tokens": 11.25,
        "per_row": True,
        "triplets": 2,
        "device": "cpu",
        "threads": 2,
        "model": MODEL,
    } | values


def ablation_row(
    attribute: str, variant: str = "s-psr4-kl-qr@2", ahead: float = -1.0, **more: object
) -> dict[str, object]:
    return {
        "benchmark": attribute.partition("/")[0],
        "attribute": attribute,
        "variant": variant,
        "name": "S-PSR4 KL·QR",
        "rank": 4,
        "objective": "KL",
        "span": "QR",
        "layer": 2,
        "warm": False,
        "numbers": 516,
        "alpha": 1.0,
        "value": 95.0 + ahead,
        "low": 90.0,
        "high": 99.0,
        "coherence": 96.0,
        "reached": True,
        "prompt": 95.0,
        "prompt_coherence": 97.0,
        "ahead": ahead,
        "ahead_low": ahead - 1.0,
        "ahead_high": ahead + 1.0,
        "ahead_search": ahead,
        "dead": 0,
        "keep": None,
        "value_c80": 97.0,
        "value_c80_low": 96.0,
        "value_c80_high": 98.0,
        "alpha_c80": 1.5,
        "coherence_c80": 85.0,
        "alpha_equal": 1.25,
        "equal": 2,
        "value_equal": 95.5,
        "coherence_equal": 95.0,
        "ahead_equal": 0.5,
        "ahead_equal_low": -1.0,
        "ahead_equal_high": 2.0,
        "drift": 0.3,
        "drift_low": 0.2,
        "drift_high": 0.4,
        "prompt_drift": 0.5,
        "prompt_drift_low": 0.4,
        "prompt_drift_high": 0.6,
        "drift_more": -0.2,
        "drift_more_low": -0.3,
        "drift_more_high": -0.1,
        "drift_answers": 40,
        "triplets": 2,
        "negatives": 0,
        "n": 4,
        "n_unscored": 0,
        "seeds": 2,
        "model": MODEL,
        **more,
    }


SUBJECTS = {
    "plain": "plain",
    "prompt": "prompt",
    "a-psr-mse-qr": "A-PSR MSE·QR",
    "a-psr-mse-qr+signs": "A-PSR MSE·QR, signs randomised",
}


def side_effect_rows(attribute: str = ATTRIBUTES[0], turns: int = 3, **values: object) -> list[dict[str, object]]:
    """Every measure of four subjects; English could not be told, and the last turn did not fit."""
    singles = ("effect", "coherence", "drift", "formats", "english", "length", "ended")
    keys = [(name, 0) for name in singles] + [(name, n) for n in range(1, turns + 1) for name in singles[:2]]
    rows = []
    for i, (method, name) in enumerate(SUBJECTS.items()):
        for measure, turn in keys:
            note = "no language" if measure == "english" else "the context is full" if turn == turns else ""
            value = None if note else 10.0 * i + turn
            figure = {"value": value, "low": value and value - 1, "high": value and value + 1}
            less = None if note or method == "prompt" else value - 10.0 - turn  # type: ignore[operator]
            rows.append(
                {
                    "attribute": attribute,
                    "method": method,
                    "name": name,
                    "alpha": 1.25 if i > 1 else None,
                    "reached": i < 2,
                    "measure": measure,
                    "turn": turn,
                    **figure,
                    "difference": less,
                    "difference_low": less,
                    "difference_high": less,
                    "n": None if note else 4,
                    "n_unscored": None if note else 0,
                    "seeds": 2,
                    "note": note,
                    "model": MODEL,
                    **values,
                }
            )
    return rows


def _write_agreement(data: Path) -> None:
    """Everything that a person was shown rated 60 of 100, and compared with the judge as if they agreed on 2 of 3."""
    asked = {pair.id: pair for pair in tables.read_pairs(data / "steer/pairs.parquet")}
    rows = [
        {
            "judge": "people:anna", "rubric": "sheet 1", "completion": one.id,
            "answer": short_hash("answer", asked[one.pair].question, one.text), "dimension": "trait", "value": 60.0,
            "scale": 100.0, "raw": "60", "error": "",
        }
        for one in tables.read_completions(data / "steer/completions.parquet")
    ]  # fmt: skip
    tables.write_table(data / "agreement/verdicts.parquet", "verdicts", rows)
    judges = ("testbed", "people:anna")
    compared = [agreement_row(key, *order) for key in ATTRIBUTES for order in (judges, judges[::-1])]
    tables.write_table(data / "agreement/agreement.parquet", "agreement", compared)


def agreement_row(attribute: str, judge: str, other: str, **values: object) -> dict[str, object]:
    figures: dict[str, object] = {}
    for name in ("equal", "kappa", "auc", "spearman", "distance"):
        known = name in ("equal", "distance")  # the person's ratings are all the same
        figures |= {
            f"{name}{end}": 0.66 + step if known else None for end, step in (("", 0), ("_low", -0.1), ("_high", 0.1))
        }
    row: dict[str, object] = {"attribute": attribute, "dimension": "trait", "judge": judge, "other": other, "n": 6}
    return {**row, "missing": 0, "missing_other": 0, "mean": 0.69, "mean_other": 0.6, **figures, **values}


def _write_fitting(data: Path) -> None:
    asked = [pair for attribute in ATTRIBUTES for pair in pairs(attribute, "fit")]
    kept = [answer(pair, "instructed", 0.0, f"Obeyed: {pair.question}") for pair in asked]
    refused = [answer(pair, "plain", 0.0, f"Plain: {pair.question}") for pair in asked]
    judged = [v for c in kept for v in verdicts(c, 90.0)] + [v for c in refused for v in verdicts(c, 0.0)]
    tables.write_pairs(data / "complete/pairs.parquet", asked, "fit", "fit")
    tables.write_completions(data / "complete/completions.parquet", kept + refused)
    tables.write_judgements(data / "select/judgements.parquet", judged)
    tables.write_triplets(
        data / "select/triplets.parquet", [Triplet(pair, c, 0.9, 0.97) for pair, c in zip(asked, kept, strict=True)]
    )
    calibration = {"judge": "likelihood", "rubric": "1", "auc": 0.99, "agreement": None, "spoilt": 0.96, "hardest": "cut",
                   "marks": "{}"}  # fmt: skip
    tables.write_table(
        data / "select/calibrations.parquet", "calibrations", [{"attribute": one, **calibration} for one in ATTRIBUTES]
    )
    tables.write_dropped(data / "select/dropped.parquet", [Dropped(c.id, "trait below 0.5") for c in refused])
    tables.write_table(
        data / "distill/modules.parquet",
        "modules",
        [module_row(attribute, BY_SLUG[slug]) for attribute in ATTRIBUTES for slug in SLUGS],
    )
    tables.write_curves(
        data / "distill/curves.parquet",
        {
            module_id(attribute, "a-psr-mse-qr"): [CurvePoint(e, 2.0 / e, 1.9 / e, 0.1, 0.25) for e in (1, 2, 3)]
            for attribute in ATTRIBUTES
        },
    )


def module_row(attribute: str, method: Method) -> dict[str, object]:
    layers = LAYERS[method.slug]
    return {
        "id": module_id(attribute, method.slug),
        "attribute": attribute,
        "method": method.slug,
        "scope": method.scope,
        "form": method.form,
        "objective": method.objective,
        "span": method.span,
        "layer": layers[0] if method.scope == "S" else None,
        "seed": 123,
        "triplets": 2,
        "folder": f"modules/{attribute.replace('/', '-')}/{method.slug}",
        "model": MODEL,
        "fits_likelihoods": False,
    }


def _write_search(data: Path) -> None:
    asked = [pair for attribute in ATTRIBUTES for pair in pairs(attribute, "search")]
    answers = [
        answer(pair, module_id(pair.attribute, slug), alpha, f"{slug} at {alpha}")
        for pair in asked
        for slug in SLUGS
        for alpha in (0.5, 1.0)
    ]
    tables.write_pairs(data / "search/pairs.parquet", asked, "search", "held_out")
    tables.write_completions(data / "search/completions.parquet", answers)
    tables.write_judgements(data / "search/judgements.parquet", [v for c in answers for v in verdicts(c, 50.0)])
    tables.write_table(
        data / "search/candidates.parquet",
        "candidates",
        [
            {
                "module": module_id(attribute, slug),
                "seed": 123,
                "point": point,
                "alpha": 1.0,
                "share": 1.0,
                "chosen": True,
            }
            for attribute in ATTRIBUTES
            for slug in SLUGS
            for point in ("C80", "Cp", "Cp2")
        ],
    )
    _write_draws(data / "search")


def _write_steering(data: Path, text: str) -> None:
    asked = [pair for attribute in ATTRIBUTES for pair in pairs(attribute, "evaluate")]
    answers = [answer(pair, "instructed", 0.0, "Obeyed.") for pair in asked]
    steered = {
        (pair, slug): answer(pair, module_id(pair.attribute, slug), 1.0, text) for pair in asked for slug in SLUGS
    }
    judged = [v for c in answers for v in verdicts(c, 95.0)]
    judged += [v for (_, slug), c in steered.items() for v in verdicts(c, TA_CP[slug])]
    first = answers[0]
    judged = [
        Judgement(j.completion, j.judge, j.rubric, j.dimension, None, 100.0, "", "no number")
        if (j.completion, j.dimension) == (first.id, "trait")
        else j
        for j in judged
    ]
    tables.write_pairs(data / "steer/pairs.parquet", asked, "evaluate", "held_out")
    tables.write_completions(data / "steer/completions.parquet", [*answers, *steered.values()])
    tables.write_judgements(data / "judge/judgements.parquet", judged)
    _write_draws(data / "steer")
    tables.write_table(
        data / "steer/strengths.parquet",
        "strengths",
        [
            {"completion": c.id, "layer": layer, "position": 9 + i, "token": token, "strength": layer + 0.1 * i}
            for (_, slug), c in steered.items()
            if slug == "a-psr-mse-qr"
            for layer in LAYERS[slug]
            for i, token in enumerate(text.split(" "))
        ],
    )


def _write_draws(stage: Path) -> None:
    tables.write_table(
        stage / "draws.parquet", "draws", [{"attribute": a, "seed": 123, "sampled": 7} for a in ATTRIBUTES]
    )


def _write_results(data: Path) -> None:
    tables.write_table(
        data / "complete/benchmarks.parquet",
        "benchmarks",
        [
            {
                "origin": name,
                "benchmark": name,
                "asked": benchmark_named(name).asked,
                "sense": benchmark_named(name).sense,
                "strength": benchmark_named(name).strength.name,
                **benchmark_named(name).package,
            }
            for name in BENCHMARKS
        ],
    )
    tables.write_table(
        data / "results/curve.parquet",
        "curve",
        [
            {
                "attribute": attribute,
                "method": slug,
                "module": module_id(attribute, slug),
                "seed": 123,
                "alpha": alpha,
                "trait": TA_CP[slug] * alpha / 4,
                "coherence": 98.0 - 10 * alpha,
                "n": 2,
            }
            for attribute in ATTRIBUTES
            for slug in SLUGS
            for alpha in (0.0, 1.0, 2.0, 4.0)
        ],
    )


def _write_faithfulness(data: Path) -> None:
    """Three layers of made-up figures: the floor at 0.1, S-Const at 1 (its alpha at the prompt's coherence is 0)."""
    errors, sums, shares, quantiles, read = [], [], [], [], []
    for attribute in ATTRIBUTES:
        subjects = [
            ("paraphrase", 0.0, True, 0.1),
            (module_id(attribute, "s-const-dim-r"), 0.0, True, 1.0),
            (module_id(attribute, "s-const-dim-r"), 1.0, False, 0.75),
            (module_id(attribute, "a-psr-mse-qr"), 1.0, True, 0.25),
        ]
        for method, alpha, chosen, value in subjects:
            for layer in range(3):
                errors.append(
                    {
                        "attribute": attribute,
                        "method": method,
                        "seed": 123,
                        "alpha": alpha,
                        "chosen": chosen,
                        "layer": layer,
                        "relative_rmse": value,
                        "low": value - 0.01,
                        "high": value + 0.01,
                        "above_floor": value - 0.1,
                        "above_floor_low": value - 0.12,
                        "above_floor_high": value - 0.08,
                        "n": 2,
                    }
                )
                sums += [
                    {
                        "pair": pair.id,
                        "method": method,
                        "seed": 123,
                        "alpha": alpha,
                        "layer": layer,
                        "squared_error": 4 * value**2,
                        "energy": 4.0,
                        "tokens": 7,
                    }
                    for pair in pairs(attribute, "evaluate")
                ]
        for kind in ("acc", "loc"):
            for layer in range(3):
                here = {"attribute": attribute, "seed": 123, "kind": kind, "layer": layer}
                shares += [
                    {**here, "r": r, "energy_share": 1 - 0.4 / r, "low": 0.5, "high": 1.0, "n": 2} for r in (1, 4)
                ]
                quantiles.append(
                    {
                        **here,
                        **dict(
                            zip(
                                ("p01", "p05", "p25", "p50", "p75", "p95", "p99"), (1, 2, 3, 4, 5, 50, 100), strict=True
                            )
                        ),
                        "spread": 100.0,
                        "spread_low": 90.0,
                        "spread_high": 110.0,
                        "tokens": 14,
                        "n": 2,
                    }
                )
                reads = "plain" if kind == "acc" else "below"
                read += [
                    {
                        **here,
                        "reads": reads,
                        "reader": reader,
                        "r_squared": 0.5 + layer / 10,
                        "low": 0.4,
                        "high": 0.9,
                        "n": 2,
                    }
                    for reader in ("linear", "gate")
                ]
    first = pairs(ATTRIBUTES[0], "evaluate")[0]
    tokens = [
        {
            "completion": answer(first, "instructed", 0.0, "").id,
            "seed": 123,
            "kind": "acc",
            "layer": 0,
            "position": i,
            "token": "a",
            "strength": float(i),
        }
        for i in range(3)
    ]
    found = {
        "faithfulness": errors,
        "deviations": sums,
        "delta": shares,
        "delta_strengths": quantiles,
        "delta_tokens": tokens,
        "readability": read,
    }
    for name, rows in found.items():
        tables.write_table(data / f"faithfulness/{name}.parquet", name, rows)
    _write_draws(data / "faithfulness")


def figure_rows(benchmark: str, scale: float = 1.0, **more: object) -> list[dict[str, object]]:
    """The main figure of every method on both attributes, TA_CP times `scale`; of persona at Cp−2 too, and
    of its modules at coherence 80."""
    main = benchmark_named(benchmark).main.figure
    rows = []
    for attribute in ATTRIBUTES:
        for position, (slug, ta) in enumerate(TA_CP.items()):
            method = BY_SLUG.get(slug)
            row: dict[str, object] = dict.fromkeys(tables.SCHEMAS["figures"].names)
            row |= {
                "benchmark": benchmark, "model": MODEL, "attribute": attribute.replace("persona", benchmark),
                "position": position, "method": slug, "name": slug, "figure": main, "value": ta * scale,
                "low": max(0.0, ta - 3) * scale, "high": min(100.0, ta + 3) * scale, "coherence": 97.0, "reached": True,
                "n": 2, "n_unscored": 1 if slug == "prompt" else 0, "seeds": 1, "favoured": False,
            }  # fmt: skip
            if method:
                row |= {
                    "name": method.name, "scope": method.scope, "form": method.form, "objective": method.objective,
                    "span": method.span, "layer": 2 if method.scope == "S" else None,
                    "module": module_id(attribute.replace("persona", benchmark), slug), "alpha": 1.0,
                }  # fmt: skip
            rows.append({**row, **more})
            if benchmark == "persona":
                rows.append({**row, "figure": "ta_cp2", "value": ta + 0.5, **more})
            if method and benchmark == "persona":
                at_80 = {"figure": "ta_c80", "value": ta + 1, "low": ta - 2, "high": min(100.0, ta + 4), "alpha": 2.0,
                         "coherence": 81.0, "reached": slug != "s-const-dim-r"}  # fmt: skip
                rows.append({**row, **at_80, **more})
    return rows


def write_figures(data: Path, rows: list[dict[str, object]], benchmarks: Iterable[str] = BENCHMARKS) -> None:
    """The tables of figures, each figure with one seed, and what the benchmarks say of themselves."""
    seeds = [{**{name: value for name, value in row.items() if name != "seeds"}, "seed": 123} for row in rows]
    known = [benchmark_named(name) for name in benchmarks]
    measures = [row for i, one in enumerate(known) for row in measure_rows(one, i)]
    published = [row for one in known for row in published_rows(one)]
    made = {"figures": rows, "figures_seeds": seeds, "measures": measures, "published": published}
    for name, own in made.items():
        tables.write_table(data / f"results/{name}.parquet", name, own)


def write_suite(data: Path, measured: bool) -> None:
    """Persona's figures, and if `measured` those of the other two benchmarks."""
    others = [*figure_rows("ifeval"), *figure_rows("axbench", 0.02)] if measured else []
    write_figures(data, [*figure_rows("persona"), *others], BENCHMARKS if measured else ["persona"])


def _write_adapters(data: Path) -> None:
    import torch

    from psr.steering.module import SteeringModule, save_module

    for row in tables.read_table(data / "distill/modules.parquet", "modules"):
        layers = LAYERS[row["method"]]
        shapes: dict[str, tuple[int, ...]] = {"z": (len(layers), 8)}
        if row["form"] == "PSR":
            shapes |= {"w": (len(layers), 8), "b": (len(layers),)}
        tensors = {name: torch.full(shape, 0.5) for name, shape in shapes.items()}
        origin = {"attribute": row["attribute"], "method": row["method"], "settings": {"lr": 0.01, "epochs": 3}}
        module = SteeringModule(row["id"], row["form"], layers, row["span"], MODEL, tensors, origin)
        save_module(module, data / "distill" / row["folder"])
