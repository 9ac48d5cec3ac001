"""What a task does on its node. Ray's worker imports it there, so it needs nothing but Python."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

POLL_S = 0.2  # between two looks at the process; a task that only waits for it could not be cancelled


def run_command(words: Sequence[str], log: str) -> int:
    """Run a command of a `seg.TrainingJob` to its end, its outputs behind what is in the file `log`; gives its code.

    A task that is cancelled, in which Ray raises KeyboardInterrupt, tells the command to save its state, and waits.
    However this process ends, the command's input ends with it, at which it does the same.

    Raises:
        FileNotFoundError: the folder of the log is not to be seen from here.
    """
    folder = Path(log).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{socket.gethostname()} does not see {folder}; all nodes must see the run folder")
    with open(log, "ab") as file:  # noqa: PTH123
        process = subprocess.Popen([*words, "--with-parent"], stdin=subprocess.PIPE, stdout=file,  # noqa: S603 - ours
                                   stderr=subprocess.STDOUT, start_new_session=True)
    told = False
    while True:
        try:
            while (code := process.poll()) is None:
                time.sleep(POLL_S)
        except KeyboardInterrupt:
            if not told:  # a second signal would stop it before its state is saved
                process.terminate()
            told = True
        else:
            return code
