"""``python -m robo_reward`` is ``robo-reward``."""

from __future__ import annotations

import sys

from robo_reward.cli import main

sys.exit(main())
