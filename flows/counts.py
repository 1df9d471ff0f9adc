"""How many answers, triplets and modules a profile comes to: upper bounds where the run decides."""

from __future__ import annotations

from dataclasses import dataclass

from flows.sections import Benchmark, Profile
from psr.fitting.methods.named import method_named
from tasks.benchmarks.catalogue import benchmark_named

ALL = 48  # questions, where a profile asks all that a benchmark has


@dataclass(frozen=True)
class Counts:
    """What one benchmark's attributes come to, or all benchmarks' together.

    completed, searched, steered: completions that the steps of these names ask for; kept: triplets, at most.
    """

    attributes: int
    methods: int
    modules: int
    completed: int
    kept: int
    searched: int
    steered: int

    @property
    def completions(self) -> int:
        return self.completed + self.searched + self.steered


def counts(settings: Profile, benchmark: Benchmark) -> Counts:
    """The counts of one of the profile's benchmarks."""
    c, s, t = settings.complete, settings.search, settings.steer
    n = benchmark.attributes if isinstance(benchmark.attributes, int) else len(benchmark.attributes)
    slugs, seeds = benchmark.methods or settings.methods, len(settings.seeds)
    strength = benchmark_named(benchmark.name).strength
    answers = (c.questions or ALL) * c.instructions * c.samples
    # strengths a module: tried in the search, and those that a resample might choose, in the mean
    searches = len(slugs) * strength.tried(s.model_dump()) + 2 * strength.unsteered
    steers = len(slugs) * strength.taken + 2 + len(t.with_prompt)
    return Counts(
        attributes=n,
        methods=n * len(slugs),
        # one a seed, or one for all seeds where fitting draws nothing at random
        modules=n * sum(seeds if method_named(slug).trained else 1 for slug in slugs),
        completed=2 * n * answers,
        kept=n * min(answers, settings.select.limit or answers),
        searched=n * seeds * (s.questions or ALL) * s.samples * searches,
        steered=n * seeds * (t.questions or ALL) * t.samples * steers,
    )


def total(settings: Profile) -> Counts:
    """The counts of all of the profile's benchmarks together."""
    each = [vars(counts(settings, benchmark)) for benchmark in settings.benchmarks]
    return Counts(**{name: sum(one[name] for one in each) for name in each[0]})
