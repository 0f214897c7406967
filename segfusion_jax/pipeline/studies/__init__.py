"""Questions that take several runs to answer, each a function `(config, workdir)` of one command."""
