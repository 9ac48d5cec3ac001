"""Words of a command line that several test files share."""

SHORT = ["--device", "cpu", "--epochs", "1", "--set", "train.steps_per_epoch=2", "--set", "architecture.features=4"]
TINY = [*SHORT, "--fold", "0"]
PLAIN = [*TINY, "--postprocessor", "none"]
