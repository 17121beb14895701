"""A search over fine-tunes of SAM2: commands on top, rooms below them; importing it switches usage reports off."""

from search.command_line.telemetry import silence_telemetry

silence_telemetry()  # before any module imports ray, mlflow, albumentations or huggingface_hub
