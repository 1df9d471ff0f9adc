"""The parquet tables of the pipeline, column by column: what every stage writes and every reader expects.

A table is called like its file: `completions` is data/{profile}/{stage}/completions.parquet.
"""

import pyarrow as pa

_TYPES = {
    "str": pa.string(),
    "int": pa.int64(),
    "int32": pa.int32(),
    "float": pa.float64(),
    "float32": pa.float32(),
    "bool": pa.bool_(),
    "ids": pa.list_(pa.int32()),
}


_WHOSE = """benchmark str, model str, attribute str, position int32, method str, name str, scope str?, form str?, objective str?, span str?,
        layer int32?, module str?, favoured bool"""


def _schema(columns: str) -> pa.Schema:
    """A schema from "name type, name type"; a type that ends in ? may be empty."""
    pairs = [column.split() for column in columns.split(",")]
    return pa.schema([pa.field(name, _TYPES[kind.rstrip("?")], kind.endswith("?")) for name, kind in pairs])


def _by_seed(schema: pa.Schema) -> pa.Schema:
    """The table before its means over seeds: a row a seed."""
    return pa.schema([field if field.name != "seeds" else pa.field("seed", pa.int64(), False) for field in schema])


SCHEMAS: dict[str, pa.Schema] = {
    "pairs": _schema("""id str, attribute str, question str, instruction str, question_set str, instruction_set str"""),
    "completions": _schema(
        """id str, pair str, method str, alpha float, seed int, model str, sampling str, token_ids ids, text str,
        finished bool, thinking str"""
    ),
    "judgements": _schema(
        """id str, completion str, judge str, rubric str, dimension str, value float?, scale float, raw str,
        error str"""
    ),
    "calibrations": _schema(
        """attribute str, judge str, rubric str, auc float, agreement float?, spoilt float, hardest str, marks str"""
    ),
    "judge_answers": _schema(
        """key str, judge str, rubric str, dimension str, model str, text str, reply str, value float?, error str, tokens_in int,
        tokens_out int, asked_at str"""
    ),
    "triplets": _schema("""id str, pair str, completion str, trait float, coherence float"""),
    "dropped": _schema("""completion str, reason str"""),
    "modules": _schema(
        """id str, attribute str, method str, scope str, form str, objective str, span str, layer int32?, seed int?,
        triplets int, folder str, model str, fits_likelihoods bool"""
    ),
    "curves": _schema("""module str, epoch int32, loss float, objective float, regulariser float, dead float"""),
    "candidates": _schema("""module str, seed int, point str, alpha float, share float, chosen bool"""),
    "draws": _schema("""attribute str, seed int, sampled int"""),
    "strengths": _schema("""completion str, layer int32, position int32, token str, strength float32"""),
    "benchmarks": _schema(
        """origin str, benchmark str, asked str, sense str, strength str, regulariser float, normalise bool"""
    ),
    "figures": _schema(
        f"""{_WHOSE}, figure str, value float?, low float?, high float?, alpha float?, coherence float?, reached bool,
        n int, n_unscored int, seeds int"""
    ),
    "measures": _schema(
        """section int32, benchmark str, position int32, figure str, label str, mean str, digits int32, interval_digits int32,
        mean_digits int32, title str, about str"""
    ),
    "published": _schema(
        """benchmark str, source str, position int32, heading str, digits int32, method str, value float?"""
    ),
    "curve": _schema(
        """attribute str, method str, module str?, seed int, alpha float?, trait float?, coherence float?, n int"""
    ),
    "faithfulness": _schema(
        """attribute str, method str, seed int, alpha float, chosen bool, layer int32, relative_rmse float?, low float?,
        high float?, above_floor float?, above_floor_low float?, above_floor_high float?, n int"""
    ),
    "deviations": _schema(
        """pair str, method str, seed int, alpha float, layer int32, squared_error float, energy float, tokens int"""
    ),
    "delta": _schema(
        """attribute str, seed int, kind str, layer int32, r int32, energy_share float?, low float?, high float?, n int"""
    ),
    "delta_strengths": _schema(
        """attribute str, seed int, kind str, layer int32, p01 float, p05 float, p25 float, p50 float, p75 float, p95 float,
        p99 float, spread float?, spread_low float?, spread_high float?, tokens int, n int"""
    ),
    "delta_tokens": _schema(
        """completion str, seed int, kind str, layer int32, position int32, token str, strength float32"""
    ),
    "readability": _schema(
        """attribute str, seed int, kind str, reads str, reader str, layer int32, r_squared float?, low float?, high float?,
        n int"""
    ),
    "bench": _schema(
        """name str, measured str, against str, goal str?, median float, low float, high float, n int, verdict str?,
        note str, device str, cores int, threads int, torch str, dtype str, model str"""
    ),
    "claims": _schema(
        """claim int32, says str, part str, compared str, published float?, value float?, low float?, high float?,
        cp2 float?, cp2_low float?, cp2_high float?, margin float, unit str, why str, verdict str,
        claim_verdict str, seeds int, attributes int, which str, note str, sql str?"""
    ),
    "adaptation": _schema(
        """attribute str, method str, name str, seed int, alpha float?, reached bool, trait float?, trait_low float?,
        trait_high float?, coherence float?, coherence_low float?, coherence_high float?, n int, drift float,
        drift_low float?, drift_high float?, drift_answers int, parameters int, fit_seconds float, epochs int32?,
        bytes int, extra_tokens float, per_row bool, triplets int, device str, threads int, model str"""
    ),
    "ablation": _schema(
        """benchmark str, attribute str, variant str, name str, rank int32, objective str, span str, layer int32?, warm bool,
        numbers int, alpha float?, value float?, low float?, high float?, coherence float?, reached bool, prompt float?,
        prompt_coherence float?, ahead float?, ahead_low float?, ahead_high float?, ahead_search float?, dead int,
        keep float?, value_c80 float?, value_c80_low float?, value_c80_high float?, alpha_c80 float?, coherence_c80 float?,
        alpha_equal float, equal int, value_equal float?, coherence_equal float?, ahead_equal float?, ahead_equal_low
        float?, ahead_equal_high float?, drift float, drift_low float?, drift_high float?, prompt_drift float,
        prompt_drift_low float?, prompt_drift_high float?, drift_more float, drift_more_low float?, drift_more_high
        float?,
        drift_answers int, triplets int, negatives int, n int, n_unscored int, seeds int, model str"""
    ),
    # A row a measure of a subject. method: plain, prompt, a slug, or SLUG+signs, the control of that module; alpha: mean over
    # seeds, reached: the prompt's effect was. measure: effect, coherence, drift (nats a token), formats, english, ended (0 to 100), length
    # (tokens); turn: of a conversation from 1 on, 0: single questions. difference: less the prompt's; note: why there is no value.
    "side_effects": _schema(
        """attribute str, method str, name str, alpha float?, reached bool, measure str, turn int32, value float?, low float?,
        high float?, difference float?, difference_low float?, difference_high float?, n int?, n_unscored int?, seeds int,
        note str, model str"""
    ),
    "verdicts": _schema(
        """judge str, rubric str, completion str, answer str, dimension str, value float?, scale float, raw str, error str"""
    ),
    "agreement": _schema(
        """attribute str, dimension str, judge str, other str, n int, missing int, missing_other int, mean float?,
        mean_other float?, equal float?, equal_low float?, equal_high float?, kappa float?, kappa_low float?, kappa_high float?,
        auc float?, auc_low float?, auc_high float?, spearman float?, spearman_low float?, spearman_high float?,
        distance float?, distance_low float?, distance_high float?"""
    ),
}
SCHEMAS["figures_seeds"] = _by_seed(SCHEMAS["figures"])

STAGES: dict[str, tuple[str, ...]] = {
    "pairs": ("complete", "search", "steer", "faithfulness"),
    "completions": ("complete", "search", "steer", "faithfulness"),
    "judgements": ("select", "search", "judge"),
    "calibrations": ("select",),
    "judge_answers": (),  # of no profile: tasks.asking.kept
    "triplets": ("select",),
    "dropped": ("select",),
    "modules": ("distill",),
    "curves": ("distill",),
    "candidates": ("search",),
    "draws": ("search", "steer", "faithfulness"),
    "strengths": ("steer",),
    "benchmarks": ("complete",),
    **dict.fromkeys(("figures", "figures_seeds", "curve", "measures", "published"), ("results",)),
    "faithfulness": ("faithfulness",),
    "deviations": ("faithfulness",),
    "delta": ("faithfulness",),
    "delta_strengths": ("faithfulness",),
    "delta_tokens": ("faithfulness",),
    "readability": ("faithfulness",),
    "bench": ("bench",),  # no stage of DVC's: flows.bench
    "claims": ("claims",),
    "adaptation": ("adaptation",),  # likewise: flows.adapt
    "ablation": ("ablation",),  # likewise: flows.ablate
    "side_effects": ("side_effects",),  # likewise: flows.side_effects
    **dict.fromkeys(("verdicts", "agreement"), ("agreement",)),  # likewise: flows.agreement
}
"""Which stages write a table of that name."""
