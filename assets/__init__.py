"""Files shipped with the package: scenes, prompts, the weights of the compact model."""

if __name__ == "assets":
    raise ImportError(
        "these are the sources of robo_reward.assets: write `import robo_reward.assets`"
    )

from pathlib import Path

ROOT = Path(__file__).resolve().parent
"""Folder of the shipped files, in a wheel, a checkout and a checkout without links alike."""
