"""The demo: camera node, reward node and learner as three processes, and what comes out of them.

``run.run_demo`` is the whole of it; ``processes`` starts and watches the nodes, ``film`` plays the
final policy beside the signals, ``page`` writes plot and report.
"""
