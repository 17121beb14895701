"""Ray Tune: scheduler, trial generator, epoch log, live table."""
