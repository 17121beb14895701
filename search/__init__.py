"""A search over fine-tunes of SAM2: commands on top, rooms below them; importing it switches usage reports off."""

import os
import sys

from search.command_line.telemetry import silence_telemetry

# `python -m` puts the working directory first on the path: a user's files there must hide no module.
if sys.argv[0] == "-m" and sys.path[0] == os.getcwd() != os.path.dirname(os.path.dirname(__file__)):
    del sys.path[0]

silence_telemetry()  # before any module imports ray, mlflow, albumentations or huggingface_hub
