"""What the commands share: options, paths, exit codes, telemetry."""
