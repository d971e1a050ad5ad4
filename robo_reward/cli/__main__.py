"""``python -m robo_reward.cli`` is ``robo-reward``."""

from __future__ import annotations

import sys

from .app import main

sys.exit(main())
