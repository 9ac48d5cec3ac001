"""What several test files share: words of a command line, and components that are not as they should be."""

SHORT = ["--device", "cpu", "--epochs", "1", "--set", "train.steps_per_epoch=2", "--set", "architecture.features=4"]
TINY = [*SHORT, "--fold", "0"]
PLAIN = [*TINY, "--postprocessor", "none"]


def changed(base, **members):
    """A component of `base` with other members."""
    return type("Mutant", (base,), members)()
