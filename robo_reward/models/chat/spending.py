"""What asking has cost so far, and where it ends."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from robo_reward.models.vlm.readings import Unanswered

from .options import EndpointOptions

MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Counts since the model was loaded.

    Attributes:
        requests: Those of retries among them.
        retries: Requests that were made again.
        failures: Questions without an answer.
        remembered: Questions that had been asked before.
        images: Pictures sent.
        prompt_tokens: As the server counts them.
        completion_tokens: The same, of its answers.
        cost: In the unit of the prices; ``None`` where none was given.
    """

    requests: int = 0
    retries: int = 0
    failures: int = 0
    remembered: int = 0
    images: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None

    def __str__(self) -> str:
        told = (
            f"{self.requests} requests ({self.retries} again), {self.images} images, "
            f"{self.prompt_tokens} tokens in, {self.completion_tokens} out, "
            f"{self.remembered} remembered, {self.failures} failed"
        )
        return told if self.cost is None else f"{told}, cost {self.cost:.4g}"


class Purse:
    """Counts and stops; any number of threads may use it.

    Args:
        options: Prices and budgets.
    """

    def __init__(self, options: EndpointOptions) -> None:
        self._options = options
        self._spent = Spent(cost=0.0 if options.price_in or options.price_out else None)
        self._lock = threading.Lock()

    @property
    def spent(self) -> Spent:
        """What was spent so far."""
        return self._spent

    def pay(self, tried: int, *, images: int) -> None:
        """Count a request that is about to be made.

        Raises:
            Unanswered: The budget is spent.
        """
        with self._lock:
            spent, most = self._spent, self._options
            if most.budget and spent.requests >= most.budget:
                raise Unanswered(f"the budget of {most.budget} requests is spent")
            if most.budget_cost and (spent.cost or 0.0) >= most.budget_cost:
                raise Unanswered(f"the budget of {most.budget_cost:g} is spent")
            self._spent = replace(
                spent,
                requests=spent.requests + 1,
                retries=spent.retries + (tried > 1),
                images=spent.images + images,
            )

    def use(self, *, prompt: int, completion: int) -> None:
        """Count the tokens of an answer."""
        prices = self._options.price_in, self._options.price_out
        with self._lock:
            spent = self._spent
            cost = spent.cost
            if cost is not None:
                cost += (prompt * prices[0] + completion * prices[1]) / MILLION
            self._spent = replace(
                spent,
                prompt_tokens=spent.prompt_tokens + prompt,
                completion_tokens=spent.completion_tokens + completion,
                cost=cost,
            )

    def count(self, *, failures: int = 0, remembered: int = 0) -> None:
        """Count questions."""
        with self._lock:
            spent = self._spent
            self._spent = replace(
                spent,
                failures=spent.failures + failures,
                remembered=spent.remembered + remembered,
            )
