"""The inside of the reward node: door (sockets), desk (rules), batcher, and the model's thread."""
