"""The command line: one small module a verb, each with `add` (its arguments) and `run` (its exit code)."""
