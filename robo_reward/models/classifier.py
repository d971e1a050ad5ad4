"""A success classifier of one task, trained in minutes on 50 to 200 labelled frames.

The form of HIL-SERL (arXiv 2410.21845) and of LeRobot's reward classifier: a frozen backbone, by
default the encoder of the shipped compact model, and a small head per camera picture that says
whether the goal holds. Here an ensemble of heads, each trained on another resample of the frames.
``done`` is the mean of their probabilities, over cameras the least; ``uncertainty`` twice the
standard deviation of the members, 1 where half of them are sure of one thing and half of the other,
over cameras the greatest. No progress: how near a probability is to 1 says how sure the heads are,
not how far the robot has come. A classifier trained for one sentence answers every sentence alike,
unless it reads the compact model's pointed features. Licence: Apache-2.0, and that of the backbone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robo_reward.models.base import Capabilities, Feature, Instants, ModelCard, ScoreArrays
from robo_reward.query import Query

from .headed import MAX_VIEWS, HeadedModel

NAME = "classifier"
SIGNALS = ("done", "uncertainty")


class Classifier(HeadedModel):
    """Reads a folder of ``robo-reward train-reward --preset classifier``; see ``HeadedModel``."""

    named = NAME
    preset = "classifier"
    card = ModelCard(
        capabilities=Capabilities(signals=SIGNALS, max_views=MAX_VIEWS, licence="Apache-2.0"),
        weights="made by train-reward --preset classifier",
    )

    def _score(
        self,
        queries: Sequence[Query],
        newest: Sequence[tuple[Feature, ...]],
        reference: Sequence[tuple[Feature, ...]],
        history: Sequence[Instants],
    ) -> ScoreArrays:
        said = [logits.sigmoid() for logits in self._asked(queries, newest)]
        none = np.full(len(queries), np.nan, np.float32)
        return ScoreArrays(
            progress=none,
            progress_delta=none,
            done=np.array([float(p.mean(1).min()) for p in said], np.float32),
            contrastive=none,
            uncertainty=np.array(
                [2.0 * float(p.std(1, unbiased=False).max()) for p in said], np.float32
            ),
        )
