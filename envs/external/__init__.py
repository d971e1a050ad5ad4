"""Suites of other projects' simulators: tasks and sentences here, the simulators on request."""
