"""Ray: start, resources, workers, failures, disks, checkpoint storage."""
