"""The stages of a run, one module each: functions `(config, workdir) -> None` that read what the one before wrote."""
