"""The demo: camera node, reward node and learner as three processes, and what comes out of them."""
