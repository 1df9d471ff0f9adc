"""The parameters of a run, typed: one section per profile in params.yaml, checked before anything starts.

A stage is handed the sections that dvc.yaml names for it and no other, so that DVC's key of a stage is all it reads.
Unknown keys are refused and the known ones listed. Sections are frozen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from psr.errors import PsrError
from psr.fitting.methods import parse_method
from tasks.engine.pipeline import Step

DEFAULT_PROFILE = "quick"
FILE = "params.yaml"

Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]
Seeds = Annotated[tuple[int, ...], Field(min_length=1)]


class Section(BaseModel):
    """Frozen, and no key that is not named here."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Model(Section):
    """The language model and how it is run. The thread count changes the last bits of matrix products, so it is here."""

    path: str
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    threads: Count = 2
    trust_remote_code: bool = False
    template: dict[str, bool | int | float | str] = {}  # options of the chat template, such as enable_thinking: false


class Benchmark(Section):
    """Whose attributes are steered for, and where its files lie. `methods` replace the profile's for these attributes."""

    name: Literal["persona", "ifeval", "axbench"]
    path: str
    attributes: Names
    methods: Names | None = None

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if methods is None else steering_methods(methods)

    @field_validator("attributes")
    @classmethod
    def _bare(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        bare = tuple(name.removeprefix(f"{info.data.get('name')}/") for name in names)
        if len(set(bare)) < len(bare):
            raise ValueError("an attribute is named twice")
        return bare


class Judge(Section):
    """Who judges. "testbed" parses the answer back with the grammar."""

    name: Literal["testbed"] = "testbed"


class Sampling(Section):
    """How every answer is sampled, before and after steering."""

    temperature: NotNegative = 1.0
    max_new_tokens: Count


class Complete(Section):
    """Fitting questions × instructions × samples an attribute; without `questions` all that the benchmark has."""

    questions: Count | None = None
    instructions: Count
    samples: Count
    seed: int
    batch_size: Count


class Select(Section):
    """What a judged completion needs to become a triplet; `limit` triplets an attribute at most."""

    min_trait: Share
    min_coherence: Share
    limit: Count | None = None


class Extract(Section):
    """How activations are recorded and cut into files."""

    dtype: Literal["float32", "bfloat16", "float16"]
    shard_mb: Positive
    batch_size: Count


class Distill(Section):
    """Fitting. `epochs`, `batch_size` and `lr` replace the preset's where they are given; `layer` is scope S's.

    The regulariser and the normalised MSE come with the benchmark (psr.fitting.presets.PACKAGES).
    """

    preset: Literal["fast", "paper"]
    epochs: Count | None = None
    batch_size: Count | None = None
    lr: Positive | None = None
    layer: Annotated[int, Field(ge=0)]


class Search(Section):
    """The search for alpha: a coarse grid; for each number of `refine` so many more where coherence crosses a
    target; alpha_max where nothing below crosses it.

    AxBench's concepts choose among `factors` instead; format instructions are steered at alpha 1.
    """

    questions: Count | None = None
    samples: Count
    alphas: Annotated[tuple[NotNegative, ...], Field(min_length=2)]
    alpha_max: Positive
    refine: tuple[Count, ...]
    factors: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None
    resamples: Count
    seed: int
    batch_size: Count

    @model_validator(mode="after")
    def _grid(self) -> Search:
        if list(self.alphas) != sorted(set(self.alphas)) or self.alphas[0] != 0 or self.alphas[-1] > self.alpha_max:
            raise ValueError(f"alphas must rise from 0 to at most alpha_max = {self.alpha_max}")
        if self.factors and list(self.factors) != sorted(set(self.factors)):
            raise ValueError("factors must rise")
        return self


class Steer(Section):
    """The evaluation's answers; per-token strengths are kept for `strengths` completions a module.

    Modules of the methods `with_prompt` also answer on top of the prompt, at alpha 1: rows `METHOD+prompt`.
    """

    questions: Count | None = None
    samples: Count
    seed: int
    batch_size: Count
    strengths: Annotated[int, Field(ge=0)]
    with_prompt: tuple[str, ...] = ()

    @field_validator("with_prompt")
    @classmethod
    def _known(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        return steering_methods(methods)


class Faithfulness(Section):
    """Δ on `questions` unseen questions, an instructed answer each, of which `strengths` are kept token by token;
    `triplets` fit the read-outs of token strengths. Every seed of the profile has answers of its own, sampled under seeds
    counted up from `seed`, none of which is one of `steer`'s."""

    questions: Count
    triplets: Count
    seed: int
    resamples: Count
    strengths: Annotated[int, Field(ge=0)]
    batch_size: Count


class Results(Section):
    """Bootstrap intervals."""

    resamples: Count
    seed: int


class Report(Section):
    """The report's heading."""

    title: str


class Profile(Section):
    """Everything one profile sets; a field's name is its section's name in params.yaml and in dvc.yaml."""

    model: Model
    benchmarks: Annotated[tuple[Benchmark, ...], Field(min_length=1)]
    judge: Judge
    methods: Names
    seeds: Seeds
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
        names = [benchmark.name for benchmark in benchmarks]
        if len(set(names)) < len(names):
            raise ValueError(f"a benchmark is named twice in {', '.join(names)}")
        return benchmarks

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is named twice")
        return seeds

    @model_validator(mode="after")
    def _fitted_before_prompted(self) -> Profile:
        fitted = {slug for benchmark in self.benchmarks for slug in benchmark.methods or self.methods}
        unknown = [slug for slug in self.steer.with_prompt if slug not in fitted]
        if unknown:
            raise ValueError(f"steer.with_prompt names {', '.join(unknown)}, which methods does not")
        return self

    @model_validator(mode="after")
    def _factors_for_concepts(self) -> Profile:
        if self.search.factors is None and any(benchmark.name == "axbench" for benchmark in self.benchmarks):
            raise ValueError("search.factors are missing, among which AxBench's concepts choose")
        return self

    @model_validator(mode="after")
    def _own_answers(self) -> Profile:
        mine, theirs = (
            range(first, first + len(self.seeds) * samples)
            for first, samples in ((self.faithfulness.seed, 1), (self.steer.seed, self.steer.samples))
        )
        if mine[0] <= theirs[-1] and theirs[0] <= mine[-1]:
            raise ValueError(
                f"faithfulness samples under {mine[0]} to {mine[-1]} (one seed for each of `seeds`), steer under "
                f"{theirs[0]} to {theirs[-1]}: choose another faithfulness.seed"
            )
        return self


def steering_methods(methods: tuple[str, ...]) -> tuple[str, ...]:
    """The methods' slugs. Raises PsrError for an unknown one, ValueError for one named twice or that steers nothing."""
    named = [parse_method(text) for text in methods]
    adapters = ", ".join(method.slug for method in named if method.adapts)
    if adapters:
        raise ValueError(
            f"{adapters} changes the model's weights; the pipeline steers activations (`psr.learn` fits it)"
        )
    slugs = tuple(method.slug for method in named)
    if len(set(slugs)) < len(slugs):
        raise ValueError(f"a method is named twice in {', '.join(slugs)}")
    return slugs


def load(path: Path, profile: str) -> Profile:
    """The section `profile` of the file at `path`. Raises PsrError: one line that says what, where and what is known."""
    sections = read(path)
    if profile not in sections:
        raise PsrError("unknown profile", where=path.name, expected=f"one of {', '.join(sections)}", got=repr(profile))
    try:
        return Profile.model_validate(sections[profile])
    except ValidationError as error:
        raise _clear(error, path.name, profile) from None
    except PsrError as error:  # of parse_method: pydantic lets it through as it is
        raise PsrError(
            error.what, where=f"{path.name}, {profile}.methods", expected=error.expected, got=error.got, do=error.do
        ) from None


def check_planned(root: Path, profile: str, settings: Profile, steps: Sequence[Step]) -> None:
    """Raises PsrError where the file no longer says what was read before `steps` were planned, where an attribute is unknown,
    or where a step reads a folder that it does not depend on."""
    if load(root / FILE, profile) != settings:
        raise PsrError("the parameters changed while the run was planned", where=FILE, do="Run again.")
    check_attributes(root, settings)
    check_watched(settings, steps)


def check_attributes(root: Path, settings: Profile) -> None:
    """Raises PsrError when the benchmark has no attribute of a name; cheap enough to do before anything starts.

    Only persona vectors name their attributes by files; the other benchmarks' loaders refuse what they do not know.
    """
    for benchmark in settings.benchmarks:
        known = {path.stem for path in (root / benchmark.path).glob("*extract/*.json")}
        unknown = [name for name in benchmark.attributes if name not in known]
        if benchmark.name == "persona" and known and unknown:
            raise PsrError(
                "unknown attribute",
                where=benchmark.path,
                expected=f"some of {', '.join(sorted(known))}",
                got=", ".join(map(repr, unknown)),
                do="Correct the benchmark's attributes in params.yaml.",
            )


def check_watched(settings: Profile, steps: Iterable[Step]) -> None:
    """Raises PsrError when a step reads a folder that is none of its dependencies: an edit there would go unnoticed."""
    for step in steps:
        loads = (
            "benchmarks" in step.sections and "tasks/benchmarks" in step.deps
        )  # distill takes only methods from there
        paths = [settings.model.path] if "model" in step.sections else []
        for path in paths + [benchmark.path for benchmark in settings.benchmarks if loads]:
            if not any(Path(path).is_relative_to(dep) for dep in step.deps):
                raise PsrError(
                    "the profile reads a folder that DVC does not watch",
                    where=path,
                    expected=f"one in {', '.join(dep for dep in step.deps if dep.startswith('data/'))}",
                    do="Name it under the profile in profiles.yaml beside its dvc.yaml.",
                )


def read(path: Path) -> Mapping[str, Any]:
    """The file as a mapping from profile to raw section. Raises PsrError where it is missing or no such mapping."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PsrError("the parameters are missing", where=path, do="Run from a checkout of the repository.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PsrError("the parameters are no valid YAML", where=path.name, got=" ".join(str(error).split())) from None
    if not isinstance(found, dict) or not found:
        raise PsrError("the parameters are no profiles", where=path.name, expected="a section per profile")
    return found


def section_names() -> tuple[str, ...]:
    """Every section a profile has, in the file's order."""
    return tuple(Profile.model_fields)


def _clear(error: ValidationError, file: str, profile: str) -> PsrError:
    """All problems pydantic found, as one line."""
    problems = [_problem(profile, detail) for detail in error.errors(include_url=False)]
    return PsrError("; ".join(problems), where=file, do="Correct the file.")


def _problem(profile: str, detail: Any) -> str:
    place, kind = detail["loc"], detail["type"]
    name = ".".join(map(str, (profile, *place)))
    if kind == "extra_forbidden":
        known = _fields_at(place[:-1])
        return f"unknown parameter {name}, expected one of {', '.join(known)}"
    if kind == "missing":
        return f"missing parameter {name}"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{name}: {message[:1].lower()}{message[1:]}, got {_short(detail['input'])}"


def _fields_at(place: tuple[int | str, ...]) -> tuple[str, ...]:
    """The known keys at a place in the tree of sections."""
    here: Any = Profile
    for step in place:
        here = get_args(here)[0] if isinstance(step, int) else here.model_fields[step].annotation
    return tuple(here.model_fields)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
