"""Keeps the log lines of TensorFlow's native code, which no setting of it silences, off the screen."""

from __future__ import annotations

import os
import re
import sys
import threading

#: Lines that say nothing to a user: information and warnings of native code, and that there is no GPU.
NOISE = re.compile(
    rb"^([IW]\d{4} \d\d:|WARNING: All log messages before absl|To enable the following instructions:"
    rb"|E\d{4} \S+ +\d+ cuda_\w+\.cc:\d+\] failed call to cuInit)"
)


def keep_quiet() -> None:
    """Send what native code writes to standard error through a filter; Python's own output goes straight on.

    With ``FASTISM_TRACEBACK=1`` nothing is filtered. Does nothing where standard error is no file.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if os.environ.get("FASTISM_TRACEBACK"):
        return
    try:
        sys.stderr.flush()
        screen = os.dup(2)
    except (AttributeError, OSError, ValueError):
        return
    out, into = os.pipe()
    os.dup2(into, 2)
    os.close(into)
    sys.stderr = os.fdopen(screen, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    threading.Thread(target=_forward, args=(out, screen), daemon=True).start()


def _forward(source: int, screen: int) -> None:
    """Copy lines that are not noise."""
    with os.fdopen(source, "rb") as lines:
        for line in lines:
            if not NOISE.match(line):
                os.write(screen, line)
