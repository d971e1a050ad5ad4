"""Recorded data: episodes, videos, logs of the recorder."""
