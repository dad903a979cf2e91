"""Bench: the two take turns, warm-up ends when it has settled, and each thing is measured once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from strop import bench, metrics, timing
from strop.bench import Bench
from strop.comparison import random_inputs
from strop.data import Data
from strop.decision import Decision
from strop.disturbance import Strain
from strop.errors import InvalidData, RunFailed
from strop.goal import Goal
from strop.judge import judge
from strop.model import Signature, Tensor
from strop.outputs import load_outputs, store_outputs
from strop.server import Block, Hosted, Server, first_feeds
from strop.target import Target
from strop.testing import FakeRuntime, fake_data, fake_model
from strop.timing import WARM_UP_BLOCKS, Effort, warm_up

TARGET = Target(threads=1)


class FakeServer:
    """A server that notes what it is asked, and whose calls take as long as told."""

    log: list[tuple[str, str]] = []  # noqa: RUF012
    seconds: dict[str, float] = {}  # noqa: RUF012
    strains: list[Strain] = []  # noqa: RUF012
    runs = 5

    noise = 0.0
    names: dict[int, str] = {}  # noqa: RUF012
    a_sample: dict[str, float] = {}  # noqa: RUF012
    rng = np.random.default_rng(0)

    def __init__(self, hosted: Any, cores: Sequence[int]):
        self.name, self.cores, self.batch = self.names.get(id(hosted), hosted), cores, 1
        self._note("start")

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self._note("stop")

    def _note(self, what: str) -> None:
        self.log.append((self.name, what))

    def prepare(self, data: Path, batch: int) -> int:
        self.batch = batch
        self._note("prepare")
        return batch

    def predict(self, data: Path, destination: Path, rows: Any = None) -> None:
        self._note("predict")
        np.savez(destination, y=np.ones(3))

    def block(self, seconds: float) -> Any:
        self._note("block")
        strain = self.strains.pop(0) if self.strains else Strain()
        seconds = self.seconds[self.name] + self.batch * self.a_sample.get(self.name, 0.0)
        return Block(seconds * self.rng.lognormal(0, self.noise, self.runs), strain)

    def serve(self, rate: float, seconds: float, seed: int) -> Any:
        self._note(f"serve {rate} {seconds} {seed}")
        return Block(np.full(self.runs, self.seconds[self.name]), Strain())

    def memory(self, data: Path) -> int:
        return {"original": 100, "candidate": 40}[self.name]


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeServer]]:
    for module in (bench, timing):
        monkeypatch.setattr(module, "Server", FakeServer)
        monkeypatch.setattr(
            module, "one_at_a_time", lambda lock: contextlib.nullcontext(0.0)
        )  # what is faked disturbs nobody
        monkeypatch.setattr(module, "quiet_cores", lambda count: (0,))
    for name, fresh in (("log", []), ("strains", []), ("noise", 0.0), ("names", {}), ("a_sample", {})):
        monkeypatch.setattr(FakeServer, name, fresh)
    monkeypatch.setattr(FakeServer, "seconds", {"original": 0.010, "candidate": 0.005})
    yield FakeServer


class Named(str):
    """A stand-in for `Hosted`: a name with a target, and as much of a model as is asked for."""

    target = TARGET
    model = SimpleNamespace(signature=Signature((), ()), format=None, size=1)
    runtime = SimpleNamespace(apart=())


def faked(folder: Path, effort: Effort) -> Bench:
    decision = Decision(Goal(()), width=effort.width)
    outputs = folder / "outputs.npz"
    return Bench(Named("original"), Named("candidate"), folder, outputs, folder, effort, 0, decision)  # type: ignore[arg-type]


def timed(log: list[tuple[str, str]]) -> list[str]:
    """Who was timed in turn, warm-up left out."""
    blocks = [name for name, what in log if what == "block"]
    return blocks[6:]


def test_original_and_candidate_take_turns_and_so_does_who_is_first(servers: Any, tmp_path: Path) -> None:
    timed_ = faked(tmp_path, Effort(pairs=1, blocks=4, runs=1)).timing("single_stream")
    turns = timed(servers.log)
    pairs = [set(turns[at : at + 2]) for at in range(0, len(turns), 2)]
    assert pairs == [{"original", "candidate"}] * 4
    assert [turns[at] for at in range(0, len(turns), 2)] == ["candidate", "original"] * 2
    assert [[len(block) for block in pair] for pair in timed_.original] == [[5] * 4]
    assert [float(block[0]) for block in timed_.candidate[0]] == [0.005] * 4


def test_both_are_warm_before_either_is_timed(servers: Any, tmp_path: Path) -> None:
    _ = faked(tmp_path, Effort(pairs=1, blocks=2, runs=1)).timing("single_stream")
    assert servers.log[:10] == [
        ("original", "start"), ("candidate", "start"),
        ("original", "prepare"), *[("original", "block")] * 3,
        ("candidate", "prepare"), *[("candidate", "block")] * 3,
    ]  # fmt: skip


def test_enough_calls_are_timed_however_few_fit_a_block(servers: Any, tmp_path: Path) -> None:
    timed_ = faked(tmp_path, Effort(pairs=2, blocks=2, runs=100)).timing("single_stream")
    assert sum(len(block) for pair in timed_.candidate for block in pair) == 100


def test_fresh_processes_until_the_ratio_is_narrow(servers: Any, tmp_path: Path) -> None:
    effort = Effort(pairs=5, blocks=2, runs=1, width=0.03)
    assert len(faked(tmp_path, effort).timing("single_stream").original) == 2, (
        "narrow after two pairs; one tells nothing of spread"
    )
    servers.log.clear()
    servers.seconds["candidate"] = 0.020
    effort = Effort(pairs=5, blocks=2, runs=1, width=0.0)
    assert len(faked(tmp_path, effort).timing("single_stream").original) == 2, "hopeless"
    assert servers.log[-2:] == [("candidate", "stop"), ("original", "stop")]


def with_samples(folder: Path) -> Path:
    """The folder, with a few samples in it and the original's outputs on them."""
    Data({"x": np.ones((4, 1), np.float32)}).save(folder)
    np.savez(folder / "outputs.npz", y=np.ones((4, 2), np.float32))
    return folder


def test_each_pair_is_fresh_but_the_first_reuses_the_server_that_ran_the_samples(servers: Any, tmp_path: Path) -> None:
    with faked(with_samples(tmp_path), Effort(pairs=2, blocks=2, runs=1, width=0)) as probe:
        _ = (
            probe.candidate_outputs,
            probe.candidate_outputs,
            probe.timing("single_stream"),
            probe.timing("single_stream"),
        )
    starts = [name for name, what in servers.log if what == "start"]
    assert starts == ["candidate", "original", "original", "candidate"]
    assert sum(what == "predict" for _, what in servers.log) == 1
    assert sum(what == "stop" for _, what in servers.log) == len(starts)


def test_a_server_that_only_ran_the_samples_is_stopped(servers: Any, tmp_path: Path) -> None:
    with faked(with_samples(tmp_path), Effort()) as probe:
        before = set(tmp_path.iterdir())
        assert set(probe.candidate_outputs) == {"y"}
    assert servers.log == [("candidate", "start"), ("candidate", "predict"), ("candidate", "stop")]
    assert set(tmp_path.iterdir()) == before, "its outputs are read, and gone"


def test_memory_is_that_of_fresh_processes_in_turn(servers: Any, tmp_path: Path) -> None:
    probe = faked(tmp_path, Effort())
    assert probe.memory() == ([100] * 3, [40] * 3)
    assert [name for name, what in servers.log if what == "start"] == ["original", "candidate"] * 3
    assert probe.memory() is probe.memory()


class Warming:
    """A server whose block medians are given; the last one stays."""

    def __init__(self, *medians: float):
        self.medians, self.asked = medians, 0

    def block(self, seconds: float) -> Any:
        self.asked += 1
        return Block(np.full(3, self.medians[min(self.asked, len(self.medians)) - 1]), Strain())


@pytest.mark.parametrize(
    ("medians", "blocks"),
    [((1.0,), 3), ((9.0, 3.0, 1.0), 5), ((1.0, 1.1, 1.0, 1.02, 1.01), 5), (tuple(range(1, 99)), WARM_UP_BLOCKS)],
)
def test_warm_up_ends_when_three_medians_agree(medians: tuple[float, ...], blocks: int) -> None:
    server = Warming(*medians)
    warm_up(server, 0.01)  # type: ignore[arg-type]
    assert server.asked == blocks


def test_waiting_is_told_and_takes_nothing_from_measuring(
    servers: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "one_at_a_time", lambda lock: contextlib.nullcontext(30.0))
    servers.noise = 0.05  # two pairs are not enough, and not so far apart that a third is taken anyway
    late = faked(tmp_path, Effort(pairs=3, blocks=2, runs=1, width=0))
    late.deadline = time.monotonic() - 10  # it passed while it waited
    assert len(late.timing("single_stream").original) == 3
    assert late.notes()[0] == "waited 30 s for another strop to end measuring on this machine"


def test_real_processes_are_measured(fakes: None, tmp_path: Path) -> None:
    slow = fake_model(tmp_path / "slow", seconds=0.02, padding=4000)
    quick = fake_model(tmp_path / "quick")
    data = fake_data(slow, 20)
    data.save(tmp_path / "data")
    outputs = tmp_path / "outputs.npz"
    expected = {"y": data.inputs["x"] @ np.zeros((4, 3), np.float32)}
    np.savez(outputs, **expected)
    effort = Effort(pairs=1, blocks=2, seconds=0.01, runs=4, lock=tmp_path / "measuring.lock")
    hosted = [Hosted(model, FakeRuntime(), TARGET) for model in (slow, quick)]
    with Bench(hosted[0], hosted[1], tmp_path / "data", outputs, tmp_path, effort, 0) as probe:
        assert (probe.candidate_outputs["y"].argmax(1) == data.labels).all()
        assert probe.original_outputs["y"].shape == probe.candidate_outputs["y"].shape == (20, 3)
        assert probe.sizes[0] > probe.sizes[1] + 3000
        timed = probe.timing("single_stream")
    assert np.median(np.concatenate(timed.original[0])) >= 0.02, "who sleeps so long can't be quicker"
    assert np.concatenate(timed.candidate[0]).size >= 4


@pytest.mark.parametrize(
    ("fault", "said"),
    [("load", "can't load this model"), ("error", "fake-runtime failed: RuntimeError: a fault of kind 'error'"),
     ("crash", "fake-runtime crashed: its process ended with signal 11")],
)  # fmt: skip
def test_what_goes_wrong_in_a_server_is_told(fakes: None, tmp_path: Path, fault: str, said: str) -> None:
    model = fake_model(tmp_path, fault=fault)
    fake_data(model, 5).save(tmp_path / "data")
    with (
        pytest.raises(RunFailed, match=said),
        Server(Hosted(model, FakeRuntime(), TARGET)) as server,
    ):
        server.predict(tmp_path / "data", tmp_path / "outputs.npz")
    assert not (tmp_path / "outputs.npz").exists()


BUSY = Strain(waited=0.5)


def disturbed(servers: Any, *turns: bool) -> None:
    """Which turns after the warm-up (of three blocks each) are disturbed."""
    servers.strains[:] = [Strain()] * 6 + [BUSY if turn else Strain() for turn in turns for _ in range(2)]


def test_a_disturbed_turn_is_taken_again(servers: Any, tmp_path: Path) -> None:
    disturbed(servers, False, True, True, False)
    probe = faked(tmp_path, Effort(pairs=1, blocks=3, runs=1))
    found = probe.timing("single_stream")
    assert (len(found.original[0]), found.repeated, found.disturbed) == (3, 2, 0)
    assert probe.notes() == (
        "2 turns of the single_stream timing were disturbed (other work ran on the measured cores), and taken again",
    )


def test_a_disturbance_that_stays_is_told_and_ends_nothing(servers: Any, tmp_path: Path) -> None:
    disturbed(servers, *[True] * 20)
    probe = faked(tmp_path, Effort(pairs=1, blocks=3, runs=1))
    found = probe.timing("single_stream")
    assert (len(found.original[0]), found.repeated, found.disturbed) == (3, 3, 3)
    assert "3 of 3 turns of the single_stream timing were disturbed" in probe.notes()[0]


def test_a_quiet_machine_has_nothing_to_note(servers: Any, tmp_path: Path) -> None:
    probe = faked(tmp_path, Effort(pairs=1, blocks=3, runs=1))
    probe.timing("single_stream")
    assert probe.notes() == ()


def test_a_limit_far_away_needs_few_pairs_and_a_close_one_more(servers: Any, tmp_path: Path) -> None:
    servers.noise = 0.2
    pairs = {}
    for limit in ("latency.p50 < 50 ms", "latency.p50 < 5.5 ms", "latency.p50 < 5.03 ms"):
        probe = faked(tmp_path, Effort(pairs=40, blocks=6, runs=1, width=1.0))
        probe.decision = Decision(Goal.parse(limit), width=1.0)
        pairs[limit] = len(probe.timing("single_stream").original)
    counts = list(pairs.values())
    assert counts[0] == 2
    assert counts[0] <= counts[1] <= counts[2]
    assert counts[2] > 3, pairs


@pytest.mark.parametrize(("slower", "pairs"), [(1.0, 2), (1.2, 2), (1.5, 3), (0.5, 3)])
def test_a_deadline_ends_timing_after_two_pairs_or_a_third_where_these_are_far_apart(
    servers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slower: float, pairs: int
) -> None:
    class Slower(FakeServer):
        def __init__(self, hosted: Any, cores: Sequence[int]):
            super().__init__(hosted, cores)
            if self.log.count(("original", "start")) == 2 and self.name == "original":
                self.seconds["original"] *= slower

    monkeypatch.setattr(timing, "Server", Slower)
    probe = faked(tmp_path, Effort(pairs=9, blocks=2, runs=1, width=0.0))
    probe.deadline = 0.0
    assert len(probe.timing("single_stream").original) == pairs


def test_offline_each_has_the_batch_that_is_best_for_it(fakes: None, servers: Any, tmp_path: Path) -> None:
    model = fake_model(tmp_path / "model")
    fake_data(model, 200).save(tmp_path / "data")
    hosted = {name: Hosted(model, FakeRuntime(), TARGET) for name in ("original", "candidate")}
    servers.seconds = {"original": 0.010, "candidate": 0.001}
    servers.names = {id(one): name for name, one in hosted.items()}
    servers.a_sample = {"original": 0.0001, "candidate": 0.001}
    data = tmp_path / "data"
    probe = Bench(hosted["original"], hosted["candidate"], data, data, data, Effort(pairs=1, blocks=2, runs=1), 0)
    found = probe.timing("offline")
    assert found.batches[0] == 128, "a call of 10 ms that takes 0.1 ms more a sample"
    assert found.batches[1] < 128, "a call of 1 ms that takes 1 ms more a sample gains 2 % no more from some batch on"


def test_throughput_is_of_the_samples_that_calls_carry(
    servers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was asked for: a model may have a batch of its own, or none."""
    monkeypatch.setattr(servers, "prepare", lambda self, data, batch: {"original": 8, "candidate": 1}[self.name])
    probe = faked(tmp_path, Effort(pairs=1, blocks=2, runs=1))
    probe.candidate.target = probe.original.target = Target(threads=1, batch=4)  # type: ignore[misc]
    monkeypatch.setattr(bench, "best_batch", lambda hosted, data: 4)
    found = metrics.find("throughput").measure(probe)
    assert found.original().value == pytest.approx(8 / 0.010) and found.candidate().value == pytest.approx(1 / 0.005)


@pytest.mark.parametrize(
    ("shape", "batched", "asked", "carried", "feeds"),
    [
        ((None, 4), True, 1, 1, 20),
        ((None, 4), True, 16, 16, 1),
        ((None, 4), True, 7, 7, 2),
        ((None, 4), True, 20, 20, 1),
        ((8, 4), True, 1, 8, 2),
        ((4,), False, 16, 1, 2),
    ],
)
def test_what_is_timed_are_calls_of_one_size(
    shape: tuple[Any, ...], batched: bool, asked: int, carried: int, feeds: int
) -> None:
    """Of 20 samples, what is left for a last call would take less time than a whole one."""
    signature = Signature((Tensor("x", "float32", shape, batched),), (Tensor("y", "float32", (None, 3)),))
    found = first_feeds(signature, Data({"x": np.ones((20, 4), np.float32)}), asked)
    assert (found[0], len(found[1])) == (carried, feeds)
    assert len({feed["x"].shape for feed in found[1]}) == 1


def test_a_server_is_timed_at_the_rate_of_the_target(servers: Any, tmp_path: Path) -> None:
    probe = faked(tmp_path, Effort(pairs=2, blocks=2, runs=1, width=9.0))
    probe.candidate.target = Target(threads=1, rate=40.0)  # type: ignore[misc]
    probe.timing("server")
    served = [what for _, what in servers.log if what.startswith("serve")]
    assert served == ["serve 40.0 0.75 0"] * 2 + ["serve 40.0 0.75 1"] * 2 + ["serve 40.0 0.75 1000"] * 2 + [
        "serve 40.0 0.75 1001"
    ] * 2, "equal times of arrival for both"  # fmt: skip


class Racing:
    """Data of 1,000 samples with labels 0, an original that is always right, and a candidate that is so at times."""

    def __init__(self, folder: Path, right: float):
        rng = np.random.default_rng(0)
        wrong = rng.random(1000) >= right
        Data({"x": wrong[:, None].astype(np.float32)}, np.zeros(1000, np.int64)).save(folder / "data")
        np.savez(folder / "outputs.npz", y=np.tile(np.float32([1, 0]), (1000, 1)))
        self.wrong, self.folder = wrong, folder

    def bench(self, limit: str, race: bool = True) -> Bench:
        return Bench(
            Named("original"), Named("candidate"), self.folder / "data", self.folder / "outputs.npz", self.folder,
            Effort(), 0, Decision(Goal.parse(limit), race=race),
        )  # type: ignore[arg-type]  # fmt: skip


@pytest.fixture
def by_rows(servers: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the candidate answer by its input, and note how many samples each call had."""
    asked: list[int] = []

    def predict(self: Any, data: Path, destination: Path, rows: Any = None) -> None:
        samples = Data.load(data) if rows is None else Data.load(data).take(rows)
        asked.append(len(samples))
        wrong = samples.batch(0, len(samples))["x"][:, 0]
        np.savez(destination, y=np.stack([1 - wrong, wrong], axis=1))

    monkeypatch.setattr(servers, "predict", predict)
    return asked


def test_a_candidate_that_is_surely_lost_is_dropped_early(by_rows: list[int], tmp_path: Path) -> None:
    race = Racing(tmp_path, right=0.5)
    with race.bench("accuracy >= 99% of original") as probe:
        assert metrics.find("accuracy").measure(probe).n == len(probe.original_outputs["y"]), "whatever is asked first"
        found = probe.candidate_outputs
        assert sum(by_rows) < 500
        assert by_rows[:2] == [8, 56], "the first tell what samples take"
        seen = len(found["y"])
        assert seen == sum(by_rows) == len(probe.labels) == len(probe.original_outputs["y"]) == len(probe.data)
        assert (found["y"].argmax(1) == probe.data.batch(0, seen)["x"][:, 0]).all(), "rows that belong together"
        report = judge(probe, probe.decision.goal, confidence=0.95, whole=False)
    assert report.figures["accuracy"].n == seen
    assert report.notes == (f"dropped after {seen} of 1,000 samples",)
    assert [judged.verdict for judged in report.judged] == ["broken"]


def test_what_the_original_reaches_on_all_samples_is_known_to_a_race(by_rows: list[int], tmp_path: Path) -> None:
    """F1 is raced by it; of the candidate's answers it needs a part only."""
    Racing(tmp_path, right=0.7)
    labels = np.arange(1000) % 2
    stored = Data.load(tmp_path / "data")
    wrong = stored.batch(0, 1000)["x"]
    Data({"x": np.where(labels[:, None] == 1, 1 - wrong, wrong)}, labels).save(tmp_path / "labelled")
    np.savez(tmp_path / "outputs.npz", y=np.eye(2, dtype=np.float32)[labels])
    race = Decision(Goal.parse("f1 >= 99% of original"), race=True)
    given = (Named("original"), Named("candidate"), tmp_path / "labelled", tmp_path / "outputs.npz", tmp_path)
    with Bench(*given, Effort(), 0, race) as probe:  # type: ignore[arg-type]
        report = judge(probe, probe.decision.goal, confidence=0.95, whole=False)
    assert sum(by_rows) < 1000
    assert [judged.verdict for judged in report.judged] == ["broken"]


def test_one_that_may_keep_its_limit_is_run_whole_and_in_order(by_rows: list[int], tmp_path: Path) -> None:
    race = Racing(tmp_path, right=0.97)
    with race.bench("accuracy >= 95% of original") as probe:
        found = probe.candidate_outputs
    assert by_rows == [8, 56, 64, 128, 256, 488]
    assert (found["y"].argmax(1) == race.wrong).all()
    assert len(probe.labels) == 1000


def test_without_a_race_all_samples_are_run_at_once(by_rows: list[int], tmp_path: Path) -> None:
    with Racing(tmp_path, right=0.1).bench("accuracy >= 99% of original", race=False) as probe:
        assert len(probe.candidate_outputs["y"]) == 1000
    assert by_rows == [8, 992]


def test_outputs_may_have_any_name(tmp_path: Path) -> None:
    outputs = {name: np.full(2, n) for n, name in enumerate(["file", "allow_pickle", "a/b", "../c", "arr_0", "d.npy"])}
    store_outputs(tmp_path / "o.npz", outputs)
    found = load_outputs(tmp_path / "o.npz")
    assert {name: array.tolist() for name, array in found.items()} == {n: a.tolist() for n, a in outputs.items()}


def test_random_inputs_beyond_memory_are_refused() -> None:
    huge = Signature((Tensor("x", "float32", (1, 200_000, 200_000)),), ())
    with pytest.raises(InvalidData, match=r"take 40960000000000 bytes .* data=DATA"):
        random_inputs(huge, 1, 0)
