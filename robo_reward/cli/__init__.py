"""The command line: ``robo-reward VERB``.

How to add a verb, for example ``eval-reward``:

1. Write ``robo_reward/cli/eval_reward.py`` with one dataclass. Its docstring is the help of the
   verb, the docstring under each field the help of the flag. Heavy imports stand inside ``run``::

       @dataclass(frozen=True, kw_only=True)
       class EvalReward(Saving):            # or Common, where nothing is written
           \"\"\"Score held-out episodes with one or more reward models.\"\"\"

           examples: ClassVar = ("robo-reward eval-reward --model compact --json",)

           data: tyro.conf.Positional[Path]
           \"\"\"Folder of episodes.\"\"\"
           model: tuple[str, ...] = ("compact",)
           \"\"\"Names or folders of the models.\"\"\"

           def run(self) -> Result:
               from robo_reward.evaluate import evaluate
               with self.open_output("-".join(self.model)) as out:
                   with self.console().bar("eval-reward", total=100, unit="ep") as bar:
                       metrics = evaluate(..., on_progress=bar.update_to)
                   out.write_json("metrics.json", metrics)
               return {**metrics, "path": str(out.path)}

2. Add one line to ``VERBS`` in ``verbs.py``.
3. Run ``pytest tests/test_cli_snapshots.py --update-snapshots`` and read what changed.

``run`` returns a dict (or a list of dicts). With ``--json`` it is printed as one JSON object on the
last line of stdout, NaN as null; without, ``show`` prints ``path`` or ``report`` if there is one,
else a table. Nothing else may print: say things through ``logging`` or ``self.console()``, both go
to stderr. Errors are raised as ``RoboRewardError``: one line on stderr, the class's exit code, no
trace unless ``-v``.

The same flag has the same name on every verb: ``--model --instruction --device --seed --out
--timeout --json --quiet/-q --verbose/-v --no-progress --yes --config``.
"""

from .app import main

__all__ = ["main"]
