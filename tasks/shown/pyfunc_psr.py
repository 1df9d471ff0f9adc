"""A steering module as an MLflow model, saved as code: chats in, steered answers out, alpha as a parameter.

    model = mlflow.pyfunc.load_model("models:/quick-persona-pirate@best")
    model.predict({"messages": [{"role": "user", "content": "Tell me about tea."}]}, params={"alpha": 1.2})

A list of {"messages": …} gives a list of texts. Served by `mlflow models serve --env-manager local -m …`, it answers

    curl 127.0.0.1:5000/invocations -H 'Content-Type: application/json' \\
        -d '{"messages": [{"role": "user", "content": "Tell me about tea."}], "alpha": 1.2}'

The module's weights are inside. The language model is the one of the module's fingerprint: on the hub, at the commit that
the module names, or where it lay when the module was tracked. `model_config={"model": "other/folder"}` says where else; to
`mlflow models serve` the environment says it: MLFLOW_PYFUNC_INFERENCE_CONFIG='{"model": "other/folder"}'.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

import psr

# MLflow asks for type hints on `predict`, with which it would ignore `params`: the warning is caught, not obeyed.
with warnings.catch_warnings(record=True):

    class SteeredModel(PythonModel):
        """A module and the language model that it steers."""

        def load_context(self, context) -> None:  # type: ignore[no-untyped-def]  # the signature MLflow looks for
            """Load both. Raises PsrError where the language model is not found, or another one."""
            self.module = psr.load_module(context.artifacts["module"])
            self.lm = language_model(self.module, context.model_config)

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            """An answer per chat. params: alpha (0 is the unsteered model), seed, max_new_tokens, temperature.

            Raises MlflowException, which a server answers with status 400, for a chat that cannot be answered.
            """
            sampling = psr.Sampling(int(params["max_new_tokens"]), float(params["temperature"]))
            seed, alpha = int(params["seed"]), float(params["alpha"])
            try:
                chats = [tuple(psr.Message(**turn) for turn in chat) for chat in model_input["messages"]]
                prompts = [psr.encode_chat(self.lm.tokenizer, chat, context=self.lm.context) for chat in chats]
                requests = [psr.Request(prompt, seed, self.module, alpha) for prompt in prompts]
                return [answer.text for answer in psr.generate(self.lm, requests, sampling)]
            except psr.PsrError as error:
                raise MlflowException.invalid_parameter_value(str(error)) from error


def language_model(module: psr.SteeringModule, config: dict[str, Any]) -> psr.LanguageModel:
    """The model that `module` was fitted on: the one that config["model"] names, else the first that proves to be it.

    Raises PsrError, with the expected fingerprint, where there is none.
    """
    candidates: list[tuple[str, str | None]] = [(str(path), None) for path in config["paths"] if Path(path).exists()]
    if module.base.revision:
        candidates.insert(0, (module.base.name, module.base.revision))
    if config["model"]:
        candidates = [(config["model"], config["revision"])]
    problems = []
    for path, revision in candidates:
        try:
            lm = psr.load_model(
                path, revision=revision, dtype=config["dtype"], device=config["device"], template=config["template"]
            )
        except psr.PsrError as error:
            problems.append(f"{error.what} ({path})")
            continue
        if lm.fingerprint.partition("-")[0] == module.model.partition("-")[0]:  # of the same weights, in whatever dtype
            return lm
        problems.append(f"fingerprint {lm.fingerprint} in {path}")
    raise psr.PsrError(
        "the language model that this module was fitted on was not found",
        where=module.id,
        expected=f"{module.base.name or 'a model'} with fingerprint {module.model}",
        got="; ".join(problems) or f"nothing in {', '.join(config['paths'])}",
        do="Say where it lies: model_config={'model': FOLDER} for load_model, or in the environment "
        'MLFLOW_PYFUNC_INFERENCE_CONFIG=\'{"model": "FOLDER"}\'.',
    )


set_model(SteeredModel())
