"""Generative reward models asked of an OpenAI-compatible server instead of local weights."""
