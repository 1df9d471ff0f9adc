"""The types of a run's parameters: a section for each step and for what steps share, with the meaning of each key.

A step gets the sections that dvc.yaml names for it and no other, so that DVC's key of the step covers all it reads.
Sections are frozen, and refuse unknown keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from psr.fitting.methods import slug_of
from psr.fitting.methods.named import method_named, methods_named
from psr.lm.hub import COMMIT
from tasks.asking.models import resolved_model
from tasks.benchmarks.catalogue import benchmark_named, benchmarks_of
from tasks.benchmarks.judges import judge_settings
from tasks.tables.activations import Keep

UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def bytes_of(size: Any) -> Any:
    """A size as text, "20 GB" or "1.5TB", in bytes; anything else as it is. Raises ValueError for a text that is no size."""
    if not isinstance(size, str):
        return size
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", size.strip())
    units = {unit.lower(): count for unit, count in UNITS.items()}
    if match is None or match[2].lower() not in units:
        raise ValueError(f"a size is a number of bytes, or a number and one of {', '.join(UNITS)}")
    return round(float(match[1]) * units[match[2].lower()])


Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Bytes = Annotated[Count, BeforeValidator(bytes_of)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]
Seeds = Annotated[tuple[int, ...], Field(min_length=1)]


class Section(BaseModel):
    """A frozen section that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True)


class Model(Section):
    """The language model that is steered, and how it is run."""

    path: str
    """A folder with a Hugging Face causal LM (safetensors, config, tokenizer with a chat template), a GGUF file, or a name on
    the Hugging Face hub."""
    revision: str | None = None
    """The commit, 40 hex digits, of a model of the hub, and required there."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    """What the weights are loaded as. `auto` is `bfloat16` where the processor or GPU computes with it, else `float32`."""
    device: str = "cpu"
    """Where it runs, as torch names it; `auto` is the GPU where there is one, else `cpu`; `balanced` is all GPUs together."""
    threads: Count = 2
    """Threads on a processor. Matrix products differ in their last bits between thread counts, so it is a parameter."""
    trust_remote_code: bool = False
    """Whether code that comes with the model may run. No shipped profile sets it."""
    template: dict[str, bool | int | float | str] = {}
    """Options of the chat template, such as `enable_thinking: false`."""

    @model_validator(mode="before")
    @classmethod
    def _resolved(cls, values: Any) -> Any:
        return resolved_model(values) if isinstance(values, dict) else values

    @field_validator("revision")
    @classmethod
    def _commit(cls, revision: str | None) -> str | None:
        if revision is not None and not COMMIT.fullmatch(revision):
            raise ValueError("a commit has 40 hex digits; a branch or a tag may be another model tomorrow")
        return revision


class Benchmark(Section):
    """A benchmark: its files, and the attributes that are steered for."""

    name: str
    """`persona`, `ifeval`, `axbench`, or a dotted path to your own: `my_lab.songs:SONGS`."""
    path: str
    """The folder with its files, in the published format."""
    attributes: Names | Count
    """Names of its attributes, or how many: that many, the first ones."""
    methods: Names | None = None
    """The methods for these attributes, instead of the profile's."""

    @field_validator("name")
    @classmethod
    def _plug(cls, name: str) -> str:
        benchmark_named(name)
        return name

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if methods is None else steering_methods(methods)

    @field_validator("attributes")
    @classmethod
    def _bare(cls, names: tuple[str, ...] | int, info: ValidationInfo) -> tuple[str, ...] | int:
        if isinstance(names, int) or "name" not in info.data:
            return names
        bare = tuple(name.removeprefix(f"{benchmark_named(info.data['name']).name}/") for name in names)
        if len(set(bare)) < len(bare):
            raise ValueError("an attribute is named twice")
        return bare


class Judge(Section):
    """The judge: a name or a dotted path, and its own settings as further keys."""

    model_config = ConfigDict(extra="allow")

    name: str = "testbed"
    """`testbed` parses the answer with the grammar and is exact; or a dotted path to your own: `my_lab.judges:Strict`."""

    @model_validator(mode="after")
    def _settings_of_its_own(self) -> Judge:
        settings = judge_settings(self.name, self.model_extra or {})
        if settings != (self.model_extra or {}):  # defaults included, so that a step's key covers them
            return Judge.model_construct(name=self.name, **settings)
        return self


class Sampling(Section):
    """How every answer is sampled, before and after steering."""

    temperature: NotNegative = 1.0
    """0: always the most likely token."""
    max_new_tokens: Count
    """Longest answer."""


class Complete(Section):
    """The answers to learn from: fitting questions × instructions × samples, with and without the instruction."""

    questions: Count | None = None
    """Fitting questions an attribute; null: all that the benchmark has."""
    instructions: Count
    """Wordings of the instruction for each question."""
    samples: Count
    """Answers to each question and instruction."""
    seed: int
    """First seed of sampling."""
    batch_size: Count
    """Answers at once; it changes no answer."""


class Select(Section):
    """What a judged answer needs to become a triplet."""

    min_trait: Share
    """Least trait value, as a share of its scale."""
    min_coherence: Share
    """Least coherence, as a share of its scale."""
    limit: Count | None = None
    """Triplets an attribute, at most."""


class Extract(Section):
    """How activations are recorded."""

    dtype: Literal["float32", "bfloat16", "float16"]
    """The dtype they are stored in."""
    shard_mb: Positive
    """Largest file, in MB."""
    batch_size: Count
    """Sequences at once."""
    budget: Bytes | None = None
    """Room that they may take, in bytes or as text such as `20 GB`; null: any. The first `keep` that fits is chosen."""
    keep: Keep | None = None
    """`full`: every layer of both sides; `layers`: those that the methods read; `8bit`: these in 8 bits; `none`: distill runs the
    model instead. null: the first of them that fits `budget`."""
    layers: dict[str, tuple[int, int]] | None = None
    """In settings.yaml alone: the first and the last layer that is kept of each side; null: all, of both."""


class Distill(Section):
    """Fitting. The regulariser and the normalised MSE come with the benchmark."""

    preset: Literal["fast", "paper"]
    """Settings to begin with: `paper` is what the authors' code runs, `fast` takes a fraction of the steps."""
    epochs: Count | None = None
    """Instead of the preset's."""
    batch_size: Count | None = None
    """Instead of the preset's."""
    lr: Positive | None = None
    """Learning rate, instead of the preset's."""
    layer: Annotated[int, Field(ge=0)]
    """The layer of methods that steer one (scope S), counted from 0."""


class Search(Section):
    """The search for the strength α on questions that give no figure."""

    questions: Count | None = None
    """Search questions an attribute; null: all."""
    samples: Count
    """Answers to each question."""
    alphas: Annotated[tuple[NotNegative, ...], Field(min_length=2)]
    """The coarse grid, rising from 0."""
    alpha_max: Positive
    """The end of the grid where coherence never crosses a target below it."""
    refine: tuple[Count, ...]
    """Number of further strengths in each round, where coherence crosses a target."""
    factors: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None
    """The strengths that AxBench's concepts choose among instead."""
    resamples: Count
    """Resamples of the questions, whose choices are answered in the evaluation too."""
    seed: int
    """First seed of sampling."""
    batch_size: Count
    """Answers at once."""

    @model_validator(mode="after")
    def _grid(self) -> Search:
        if list(self.alphas) != sorted(set(self.alphas)) or self.alphas[0] != 0 or self.alphas[-1] > self.alpha_max:
            raise ValueError(f"alphas must rise from 0 to at most alpha_max = {self.alpha_max}")
        if self.factors and list(self.factors) != sorted(set(self.factors)):
            raise ValueError("factors must rise")
        return self


class Steer(Section):
    """The evaluation's answers."""

    questions: Count | None = None
    """Evaluation questions an attribute; null: all."""
    samples: Count
    """Answers to each question."""
    seed: int
    """First seed of sampling."""
    batch_size: Count
    """Answers at once."""
    strengths: Annotated[int, Field(ge=0)]
    """Answers a module whose λ is kept token by token."""
    with_prompt: tuple[str, ...] = ()
    """Methods, of those that are compared, that also answer on top of the prompt, at α 1: rows `METHOD+prompt`."""

    @field_validator("with_prompt")
    @classmethod
    def _as_tables_call_them(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        """Slugs, which stay as they are where settings.yaml is read again."""
        return tuple(method_named(text).method.slug if ":" in text else slug_of(text) for text in methods)


class Faithfulness(Section):
    """The prompt's effect on each token of unseen questions, and how closely each module matches it.

    Each seed of the profile has its own answers, sampled with seeds counted up from `seed`, none of which `steer` uses.
    """

    questions: Count
    """Unseen questions an attribute, with one instructed answer each."""
    triplets: Count
    """Triplets that fit the read-outs of token strengths."""
    seed: int
    """First seed of sampling."""
    resamples: Count
    """Resamples of the questions, for intervals."""
    strengths: Annotated[int, Field(ge=0)]
    """Answers whose Δ is kept token by token."""
    batch_size: Count
    """Answers at once."""


class Results(Section):
    """Bootstrap intervals."""

    resamples: Count
    """Resamples of the questions."""
    seed: int
    """Seed of the draws."""


class Report(Section):
    """The report."""

    title: str
    """Its heading."""


class Profile(Section):
    """All parameters of a profile; a field's name is its section in params.yaml and dvc.yaml."""

    model: Model
    benchmarks: Annotated[tuple[Benchmark, ...], Field(min_length=1)]
    """The benchmarks whose attributes are steered for."""
    judge: Judge
    methods: Names
    """The methods that are compared (psr/fitting/methods lists them)."""
    seeds: Seeds
    """Seeds of fits; each repetition also has its own answers."""
    sampling: Sampling
    complete: Complete
    select: Select
    extract: Extract
    distill: Distill
    search: Search
    steer: Steer
    faithfulness: Faithfulness
    results: Results
    report: Report

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        return steering_methods(methods)

    @field_validator("benchmarks")
    @classmethod
    def _each_once(cls, benchmarks: tuple[Benchmark, ...]) -> tuple[Benchmark, ...]:
        benchmarks_of(benchmarks)
        return benchmarks

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is named twice")
        return seeds

    @model_validator(mode="after")
    def _fitted_before_prompted(self) -> Profile:
        fitted = {slug for benchmark in self.benchmarks for slug in slugs(benchmark.methods or self.methods)}
        unknown = [slug for slug in self.steer.with_prompt if slug not in fitted]
        if unknown:
            raise ValueError(f"steer.with_prompt names {', '.join(unknown)}, which methods does not")
        return self

    @model_validator(mode="after")
    def _what_strengths_need(self) -> Profile:
        for benchmark in self.benchmarks:
            missing = [
                name for name in benchmark_named(benchmark.name).strength.needs() if not getattr(self.search, name)
            ]
            if missing:
                raise ValueError(f"search.{missing[0]} is missing, by which {benchmark.name} chooses its strengths")
        return self

    @model_validator(mode="after")
    def _own_answers(self) -> Profile:
        measured, evaluated = (
            range(first, first + len(self.seeds) * samples)
            for first, samples in ((self.faithfulness.seed, 1), (self.steer.seed, self.steer.samples))
        )
        if measured[0] <= evaluated[-1] and evaluated[0] <= measured[-1]:
            raise ValueError(
                f"faithfulness samples under {measured[0]} to {measured[-1]} (one seed for each of `seeds`), steer under "
                f"{evaluated[0]} to {evaluated[-1]}: choose another faithfulness.seed"
            )
        return self


def steering_methods(methods: tuple[str, ...]) -> tuple[str, ...]:
    """The methods as steps are handed them: slugs of psr's, dotted paths of others.

    Raises PsrError for an unknown one or two of one slug, ValueError for one that steers nothing.
    """
    plugs = methods_named(methods)
    adapters = ", ".join(plug.method.slug for plug in plugs if plug.method.adapts)
    if adapters:
        raise ValueError(
            f"{adapters} changes the model's weights; the pipeline steers activations (`psr.learn` fits it)"
        )
    return tuple(text if ":" in text else plug.method.slug for text, plug in zip(methods, plugs, strict=True))


def slugs(methods: Iterable[str]) -> tuple[str, ...]:
    """The methods as tables call them."""
    return tuple(plug.method.slug for plug in methods_named(methods))
