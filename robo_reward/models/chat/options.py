"""Settings of a model that is asked of a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import msgspec

from robo_reward.errors import ConfigError
from robo_reward.models.vlm.options import Count, read_options

PREFIX = "endpoint:"
_OF_WEIGHTS = frozenset(
    {
        *("dtype", "attention", "compile", "bits", "adapter", "adapters", "trust_remote_code"),
        *("batch", "reuse", "offline"),
    }
)
"""Options of weights that are loaded here."""

Least = Annotated[float, msgspec.Meta(ge=0.0)]
Whole = Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointOptions:
    """Which model of the server, how its answers are read, and what that may cost.

    Attributes:
        served: Name of the model at the server; the only one that it lists where empty. ``{use}``
            in it becomes the name of an adapter (``lrm-{use}``: lrm-progress, …).
        token_env: Environment variable that holds the API key.
        token_file: File of mode 600 that holds it.
        insecure_http: Whether ``http://`` may go to other machines.
        prefill: Whether the beginning of the answer is put into the model's mouth, as it is with
            local weights (``continue_final_message`` of vLLM and SGLang). Else the whole answer is
            the model's own, and is read behind the beginning that the prompt asks for.
        top: Likeliest tokens that the server is asked for at each place (``top_logprobs``).
        floor: Log-probability of an answer that is not among them.
        sample: Answers that are drawn where the server gives no log-probabilities; the share of
            each is its probability. 0 reads log-probabilities.
        temperature: Of drawing.
        seed: Of drawing.
        tokens: Length of an answer at most, where it is the model's own.
        image: Form of the frames.
        quality: Of JPEG.
        concurrency: Requests at once.
        tries: Requests for one question at most.
        pause: Seconds before the second try; doubled each time, with chance. ``Retry-After`` wins.
        timeout: Seconds for one request.
        batch_timeout: Seconds for all questions of a batch, pauses among them; what has no answer
            by then fails. Longer than a node's ``stall_exit`` the node gives up first.
        answers_kept: Questions whose answers are kept.
        price_in: Of a million prompt tokens.
        price_out: Of a million tokens of answers.
        budget: Requests after which rows fail instead; 0: no limit.
        budget_cost: Cost after which rows fail, in the unit of the prices; requests that are under
            way then are still paid for. 0: no limit.

    Raises:
        ConfigError: Two of them do not go together.
    """

    served: str = ""
    token_env: str = ""
    token_file: str = ""
    insecure_http: bool = False
    prefill: bool = False
    top: Count = 20
    floor: float = -25.0
    sample: Whole = 0
    temperature: Annotated[float, msgspec.Meta(gt=0.0)] = 1.0
    seed: int = 0
    tokens: Count = 256
    image: Literal["jpeg", "png"] = "jpeg"
    quality: Annotated[int, msgspec.Meta(ge=1, le=100)] = 95
    concurrency: Count = 8
    tries: Count = 5
    pause: Least = 0.5
    timeout: Annotated[float, msgspec.Meta(gt=0.0)] = 30.0
    batch_timeout: Annotated[float, msgspec.Meta(gt=0.0)] = 30.0
    answers_kept: Count = 65536
    price_in: Least = 0.0
    price_out: Least = 0.0
    budget: Whole = 0
    budget_cost: Least = 0.0

    def __post_init__(self) -> None:
        """Hold what one setting asks of another."""
        if self.budget_cost and not (self.price_in or self.price_out):
            raise ConfigError("budget_cost needs price_in and price_out, per million tokens")
        if not self.floor < 0:
            raise ConfigError(f"floor is a log-probability and must be < 0, got {self.floor:g}")

    @property
    def label(self) -> str:
        """How answers are read, as it stands in the model id."""
        how = f"sample{self.sample}" if self.sample else f"top{self.top}"
        return how + "+prefill" * self.prefill

    @property
    def identity(self) -> dict[str, Any]:
        """Settings that change what the model says."""
        names = ["served", "prefill", "image", "tokens"]
        names += ["sample", "temperature", "seed"] if self.sample else ["top", "floor"]
        names += ["quality"] * (self.image == "jpeg")
        return {name: getattr(self, name) for name in names}


def address_of(checkpoint: str) -> str:
    """Return the URL where a checkpoint is one, with or without ``endpoint:``; else "".

    Example:
        >>> address_of("endpoint:https://gpu:8000/v1"), address_of("Qwen/Qwen3-VL-8B-Instruct")
        ('https://gpu:8000/v1', '')
    """
    url = checkpoint.removeprefix(PREFIX)
    return url if url.startswith(("https://", "http://")) else ""


def split_options(
    given: Mapping[str, Any], *, model: str
) -> tuple[EndpointOptions, dict[str, Any]]:
    """Return the settings of the endpoint, and those of the model.

    Raises:
        ConfigError: A setting makes no sense, or is one of weights that are loaded here.
    """
    if here := sorted(set(given) & _OF_WEIGHTS):
        raise ConfigError(f"{here[0]} is for weights that are loaded here; the server decides it")
    names = {field.name for field in fields(EndpointOptions)}
    own = {name: value for name, value in given.items() if name in names}
    rest = {name: value for name, value in given.items() if name not in names}
    return read_options(EndpointOptions, own, model=model), rest
