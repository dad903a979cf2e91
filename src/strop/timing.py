"""Timing: original and candidate take turns on the same cores, until the decision at hand can be made."""

from __future__ import annotations

import collections
import contextlib
import fcntl
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .data import Data
from .disturbance import quiet_cores
from .errors import RunFailed
from .jobs import waiting
from .metric import Timing
from .server import Block, Hosted, Server

Array = np.ndarray[Any, Any]

SETTLED = 0.05  # the last three block medians within this share of each other: warm
WARM_UP_BLOCKS = 12  # at the most
LOOK = 0.05  # seconds of a block that is only to find the best batch
MOST_A_CALL = 128  # samples, up to which batches are tried
WORTH_IT = 0.02  # what a batch of twice the size must gain
LEAST_PAIRS = 2  # one tells nothing of how processes differ
APART = 1.25  # the ratio of two pairs' 95th percentiles, above which a bound by these two alone would be of no use
WAITING = "another strop measures on this machine: waiting for it to end"
CALLS_A_BLOCK = 30  # that arrive at random times, at the least: fewer show no queue
LOCK = Path("/tmp/strop-measuring.lock")  # not where TMPDIR says: all users must find the same one
REPEATS = 1.0  # disturbed turns that are taken again, for each that is wanted, before they count as they are
TICK = 0.05  # seconds between two looks at a lock that another one holds


@dataclass(frozen=True)
class Effort:
    """How much measuring is worth its time.

    Attributes:
        pairs: Fresh pairs of processes, at the most.
        blocks: Timed blocks of each, in every pair.
        seconds: Length of a block.
        runs: Calls of each that must be timed in all; a bound on a high percentile needs hundreds.
        width: Half-width of the ratio's interval, relative, that is narrow enough.
        processes: Fresh ones of each, to tell how much memory varies.
        longest: Seconds after which no pair beyond the second is started, or the third, as with a deadline.
        lock: The file by which those see each other that must not measure at once; None for the one of the host.
    """

    pairs: int = 3
    blocks: int = 6
    seconds: float = 0.05
    runs: int = 30
    width: float = 0.03
    processes: int = 3
    longest: float = 20.0
    lock: Path | None = None


SEARCHING = Effort()
CONFIRMING = Effort(pairs=8, blocks=8, runs=100, width=0.015, longest=40.0)


@dataclass
class Turns:
    """Fresh pairs of processes, one after another; in each, original and candidate are timed in alternating blocks.

    A turn during which either was disturbed is taken again: what would be reported is the machine, not the model.

    Attributes:
        original: The model as given.
        candidate: What it is compared with.
        data: Folder of stored samples.
        batches: Samples asked for in a call, of original and candidate.
        rate: Calls a second that arrive at random times; None for one call after another.
        effort: What it may take.
        deadline: No pair beyond the second is started after it, on the clock of `time.monotonic`; beyond the third,
            where the first two are far apart.
    """

    original: Hosted
    candidate: Hosted
    data: Path
    batches: tuple[int, int]
    effort: Effort
    deadline: float = float("inf")
    rate: float | None = None
    _causes: collections.Counter[str] = field(default_factory=collections.Counter)
    _repeated: int = 0
    _kept: int = 0
    _carried: tuple[int, int] = (1, 1)

    def take(self, enough: Callable[[Timing], bool], server: Server | None = None) -> Timing:
        """Time pairs until it is enough, or the effort is spent.

        Args:
            enough: Asked after every pair.
            server: One that holds the candidate already, for the first pair.
        """
        ours: list[list[Array]] = []
        theirs: list[list[Array]] = []
        end = min(self.deadline, time.monotonic() + self.effort.longest)
        while True:
            cores = server.cores if server else quiet_cores(self.candidate.target.threads)
            first, second = Server(self.original, cores), server or Server(self.candidate, cores)  # they load at once
            with first, second:
                pair = self._alternate(first, second, len(ours))
            server = None
            ours.append(pair[0])
            theirs.append(pair[1])
            timing = Timing(ours, theirs, self._carried, self._repeated, self._kept, self._why())
            late = time.monotonic() > end and len(ours) >= LEAST_PAIRS + _differ(ours, theirs)
            if late or len(ours) >= self.effort.pairs or enough(timing):
                return timing

    def _alternate(self, first: Server, second: Server, pair: int) -> tuple[list[Array], list[Array]]:
        self._carried = self._ready(first, self.batches[0]), self._ready(second, self.batches[1])
        ours: list[Array] = []
        theirs: list[Array] = []
        wanted = self.effort.runs / min(self.effort.pairs, LEAST_PAIRS)
        usual, left = 0.0, int(REPEATS * self.effort.blocks)
        while len(ours) < self.effort.blocks or min(sum(map(len, ours)), sum(map(len, theirs))) < wanted:
            # who goes first changes from block to block, so that neither always runs in the other's wake
            order = (0, 1) if (len(ours) + pair) % 2 else (1, 0)
            blocks = {place: self._block((first, second)[place], pair * 1000 + len(ours)) for place in order}
            usual = max(usual, *(block.strain.hertz for block in blocks.values()))
            if causes := _causes(blocks.values(), usual):
                self._causes.update(causes)
                if left > 0:
                    left, self._repeated = left - 1, self._repeated + 1
                    continue
                self._kept += 1
            ours.append(blocks[0].calls)
            theirs.append(blocks[1].calls)
        return ours, theirs

    def _ready(self, server: Server, batch: int) -> int:
        carried = server.prepare(self.data, batch)
        warm_up(server, self.effort.seconds)
        return carried

    def _block(self, server: Server, number: int) -> Block:
        if self.rate is None:
            return server.block(self.effort.seconds)
        return server.serve(self.rate, max(self.effort.seconds, CALLS_A_BLOCK / self.rate), number)

    def _why(self) -> str:
        return ", ".join(cause for cause, _ in self._causes.most_common())


def _differ(*sides: list[list[Array]]) -> bool:
    """Whether pairs are so far apart that one more should tell which of them is the rule."""
    high = [[np.percentile(np.concatenate(pair), 95) for pair in side] for side in sides]
    return any(max(side) > APART * min(side) for side in high)


def _causes(blocks: Iterable[Block], usual: float) -> set[str]:
    return {cause for block in blocks if (cause := block.strain.why(usual))}


def warm_up(server: Server, seconds: float) -> None:
    """Run until the medians of three blocks on end agree."""
    medians: list[float] = []
    for _ in range(WARM_UP_BLOCKS):
        medians.append(float(np.median(server.block(seconds).calls)))
        last = medians[-3:]
        if len(last) == 3 and max(last) - min(last) < SETTLED * min(last):
            return


def best_batch(hosted: Hosted, data: Path) -> int:
    """The samples a call that give the most samples a second: doubled until that gains nothing.

    A batch that was asked for stays, and so does one that the model fixes.
    """
    signature, asked = hosted.model.signature, hosted.target.batch
    if asked > 1 or signature.states or not all(t.batched and t.fixed_batch is None for t in signature.inputs):
        return asked
    best, found = asked, 0.0
    with Server(hosted, quiet_cores(hosted.target.threads)) as server:
        batch, most = asked, min(MOST_A_CALL, len(Data.load(data)))
        while batch <= most:
            carried = server.prepare(data, batch)
            warm_up(server, LOOK)
            speed = carried / float(server.block(LOOK).calls.min())  # what else the machine does only adds to a call
            if speed < found * (1 + WORTH_IT):
                break
            best, found, batch = batch, speed, 2 * batch
    return best


@contextlib.contextmanager
def one_at_a_time(lock: Path | None = None, patience: float = math.inf) -> Iterator[float]:
    """Hold the host's lock for measuring: two at once would disturb each other. Gives the seconds of waiting for it.

    It is one for all users and for any TMPDIR. Whoever makes it lets all others read it, which is enough to hold it.

    Args:
        patience: Seconds to wait at the most.

    Raises:
        RunFailed: What stands in its place is no file that can be read.
        TimeoutError: Another one holds it, and that was too long.
    """
    lock = lock or LOCK
    try:
        descriptor = _open_lock(lock)
    except OSError as error:
        raise RunFailed(
            f"two strops must not measure at once, and {lock}, by which they see each other, can't be opened "
            f"({error.strerror}). It should be a file that everybody may read: remove it, and it is made anew."
        ) from error
    try:
        start = time.monotonic()
        with waiting():
            while not _held(descriptor, math.isinf(patience)):
                if time.monotonic() - start > patience:
                    raise TimeoutError("another strop measures on this machine")
                time.sleep(TICK)
        yield time.monotonic() - start
    finally:
        os.close(descriptor)


def _held(descriptor: int, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _open_lock(lock: Path) -> int:
    # another user's is only read, and not opened with O_CREAT, which a sticky folder refuses (fs.protected_regular)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # neither a link nor a pipe put there by somebody leads astray
    with contextlib.suppress(FileNotFoundError):
        return os.open(lock, flags)
    try:
        descriptor = os.open(lock, flags | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:  # another one was faster
        return os.open(lock, flags)
    os.fchmod(descriptor, 0o644)  # whatever the umask says
    return descriptor
