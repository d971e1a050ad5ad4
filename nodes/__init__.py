"""The nodes: camera, reward node, recorder, monitor, and ``up``, which runs several of them.

Each node is one process with a name, a namespace, parameters, a life cycle and diagnostics, as in
ROS 2. They talk over ``robo_reward.transport``; topics, messages and rates are in ``README.md``.
"""

if __name__ == "nodes":
    raise ImportError("these are sources of robo_reward.nodes: write `import robo_reward.nodes`")
