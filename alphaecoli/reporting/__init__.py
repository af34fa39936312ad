"""The page that `python -m alphaecoli.report` writes: its contents, its tracks, its HTML."""
