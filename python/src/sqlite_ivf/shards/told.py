"""Tells how far the commands of a collection are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Optional, Union

from ..progress import Bar, Callback, Progress

if TYPE_CHECKING:
    from typing_extensions import Self


class Told:
    """Tells a callback how far a command is."""

    def __init__(self, command: str, stage: str, total: Optional[int], progress: Union[bool, Callback, None]) -> None:
        self.bar = Bar() if progress is True else None
        self.callback: Optional[Callback] = self.bar if self.bar is not None else progress or None  # type: ignore[assignment]
        self.command, self.stage, self.total, self.began, self.done = command, stage, total, time.monotonic(), 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def more(self, done: int) -> None:
        """So much more is done. An error if the callback says that it is enough."""
        self.done += done
        if self.callback is not None:
            fraction = None if self.total is None else self.done / max(self.total, 1)
            now = Progress(self.command, self.stage, self.done, self.total, fraction, time.monotonic() - self.began)
            if self.callback(now) is False:
                raise InterruptedError(f"{self.command} was interrupted: {self.done} of {self.total} {self.stage} are done")
