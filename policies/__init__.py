"""Policies that learn from rewards: cloning, SAC and PPO through stable-baselines3."""

if __name__ == "policies":
    raise ImportError(
        "these are the sources of robo_reward.policies: write `import robo_reward.policies`"
    )
