"""A steering module as an MLflow model, saved as code: chats in, steered answers out, alpha as a parameter.

    model = mlflow.pyfunc.load_model("models:/quick-persona-pirate@best")
    model.predict([[{"role": "user", "content": "Tell me about tea."}]], params={"alpha": 1.2})

The language model is loaded from where it lay when the module was tracked; `model_config={"model": "other/folder"}`
says otherwise. A chat is a list of {"role", "content"}; a list of chats gives a list of texts.
"""

import warnings
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from psr.errors import PsrError
from psr.types import Chat, Message

# MLflow asks for type hints on `predict`, with which it would ignore `params`: the warning is caught, not obeyed.
with warnings.catch_warnings(record=True):

    class SteeredModel(PythonModel):
        """A module and the language model that it steers."""

        def load_context(self, context) -> None:  # type: ignore[no-untyped-def]  # the signature MLflow looks for
            """Load both. Raises PsrError when the folder of the language model is gone or holds another one."""
            from psr.lm.loading import load_model
            from psr.steering.module import check_model, load_module

            place = context.model_config
            self.module = load_module(context.artifacts["module"])
            more = {"dtype": place["dtype"], "device": place["device"], "template": place.get("template")}
            more["revision"] = place.get("revision")  # none in what earlier releases tracked
            self.lm = load_model(place["model"], **more)
            check_model(self.module, self.lm.fingerprint, self.lm.d_model, self.lm.n_layers)

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            """An answer per chat. params: alpha (0 is the unsteered model), seed, max_new_tokens, temperature."""
            from psr.answers.generation import Request, generate
            from psr.answers.sampling import Sampling
            from psr.lm.chats import encode_chat

            sampling = Sampling(int(params["max_new_tokens"]), float(params["temperature"]))
            prompts = [encode_chat(self.lm.tokenizer, chat, context=self.lm.context) for chat in chats(model_input)]
            seed, alpha = int(params["seed"]), float(params["alpha"])
            requests = [Request(prompt, seed, self.module, alpha) for prompt in prompts]
            return [answer.text for answer in generate(self.lm, requests, sampling)]


def chats(given: Any) -> list[Chat]:
    """Chats out of what MLflow hands over: one chat, several, or a data frame with a column `messages`.

    Raises PsrError for anything else.
    """
    if hasattr(given, "columns") and "messages" in given.columns:
        given = given["messages"]
    try:
        listed = given.tolist() if hasattr(given, "tolist") else list(given)
        if listed and isinstance(listed[0], dict):
            listed = [listed]
        return [tuple(Message(str(turn["role"]), str(turn["content"])) for turn in chat) for chat in listed]
    except (TypeError, KeyError) as error:
        raise PsrError(
            "not a list of chats",
            expected='[[{"role": "user", "content": "…"}]]',
            got=f"{type(error).__name__}: {error}",
        ) from error


set_model(SteeredModel())
