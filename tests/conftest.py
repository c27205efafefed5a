"""Shared fixtures. Torch runs on two threads at most, as the machines that run these tests have two cores."""

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
