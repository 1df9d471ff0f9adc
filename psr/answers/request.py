"""One answer to make, and the requests that cannot be answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psr.answers.sampling import Sampling
from psr.errors import PsrError
from psr.lm.chats import Prompt
from psr.lm.models import LanguageModel
from psr.lm.padding import check_ids
from psr.steering.module import SteeringModule, check_model
from psr.steering.terms import Steer, with_alphas


@dataclass(frozen=True, eq=False)
class Request:
    """One answer to make. seed: of its random numbers. module: what steers it at strength alpha; None: nothing.

    Several modules steer together, as in `psr.steer`: alpha is then one number for all of them, or one for each.
    """

    prompt: Prompt
    seed: int
    module: SteeringModule | Sequence[SteeringModule] | None = None
    alpha: float | Sequence[float] = 0.0

    @property
    def steers(self) -> tuple[Steer, ...]:
        """What happens to this row; R begins at the last prompt token, QR at the user turn."""
        each = with_alphas(self.module, self.alpha)
        return tuple(Steer(module, alpha, self.prompt.start(module.span)) for module, alpha in each)

    @property
    def sameness(self) -> tuple[object, ...]:
        """Requests with equal `sameness` get the same answer: α = 0 is no steering."""
        active = ((id(one.module), one.alpha, one.start) for one in self.steers if one.active)
        return (self.prompt.ids, self.seed, *active)


def check_requests(lm: LanguageModel, requests: Sequence[Request], sampling: Sampling, batch_size: int) -> None:
    """Raise PsrError for a request that cannot be answered, as `generate` says."""
    if batch_size < 1:
        raise PsrError("a batch holds no row", expected="batch_size of at least 1", got=batch_size)
    modules = {one.module for request in requests for one in request.steers if one.module is not None}
    if modules:
        lm.check_adapters()
    for module in modules:
        check_model(module, lm.fingerprint, lm.d_model, lm.n_layers)
    for i, request in enumerate(requests):
        length = len(request.prompt.ids)
        if length == 0:
            raise PsrError("an empty prompt cannot be answered", where=f"request {i}", expected="at least one token")
        check_ids(request.prompt.ids, lm.vocabulary, f"request {i}")
        if length + sampling.max_new_tokens > lm.context:
            raise PsrError(
                "prompt and answer do not fit the model's context",
                where=f"request {i}",
                expected=f"at most {lm.context} tokens",
                got=f"{length} of the prompt + {sampling.max_new_tokens} new",
                do="Shorten the question or lower max_new_tokens.",
            )
