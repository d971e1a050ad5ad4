"""Training of reward models: data, labels, losses, the loop."""
