"""What a seed stands for: how large the cluster is, what goes wrong in it, and when.

Each probability is drawn too, and may be 0: a run with few kinds of faults finds
what one with all of them hides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from random import Random

from fastworker._errors import ConfigurationError
from fastworker._transport._memory import Faults

CONTROL = "control"
LISTENER = "l1"

CRASH = "crash"
SILENT_CRASH = "silent crash"
PAUSE = "pause"
CUT = "partition"
ONE_WAY_CUT = "partition one way"
UNPLUG = "unplug"
RESET = "reset"
SLOW = "slow"
STORE_FULL = "store full"
STORE_TORN = "store torn"
DRAIN = "drain"
KINDS = (
    CRASH,
    SILENT_CRASH,
    PAUSE,
    CUT,
    ONE_WAY_CUT,
    UNPLUG,
    RESET,
    SLOW,
    STORE_FULL,
    STORE_TORN,
    DRAIN,
)


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
      at: seconds after the storm has begun; and ``steps`` rounds of the loop later.
      kind: one of ``KINDS``.
      process: whom it happens to.
      other: of a partition, from whom that is cut off.
      seconds: for how long.
    """

    at: float
    kind: str
    process: str
    seconds: float = 0.0
    other: str = ""
    steps: int = 0

    def __str__(self) -> str:
        between = f" from {self.other}" if self.other else ""
        lasting = f" for {self.seconds:.3g} s" if self.seconds else ""
        return f"{self.at:8.3f} s: {self.kind} of {self.process}{between}{lasting}"


@dataclass(frozen=True)
class Plan:
    """A run. With the same plan and the same code it is the same run.

    Attributes:
      seed: decides about everything that is not said here.
      workers, clients: how many there are.
      is_durable: whether the control plane's store outlives it.
      is_blocking: whether writing it takes time.
      messages: what happens to frames, all through the storm.
      storm: how many seconds that is.
      faults: what goes wrong in it.
      store_seconds: how long a transaction takes on the average, if that takes time.
      skew: how far the wall clocks of processes are wrong at most, in seconds.
      deaths: the share of task processes that are killed.
      work: how many seconds an attempt of a ``def`` function takes on the average.
      long: the share of ``def`` attempts that take long.
      settle: how many seconds everything may take once nothing goes wrong any more.
      max_queued: how many tasks that have not ended the control plane takes.
      listens: whether somebody is to be told of ends, by callbacks.
      tasks: about how many tasks a client submits, where the scenario asks for that.
    """

    seed: int
    workers: int = 2
    clients: int = 1
    slots: int = 2
    is_durable: bool = True
    is_blocking: bool = True
    messages: Faults = field(default_factory=Faults)
    storm: float = 10.0
    faults: tuple[Fault, ...] = ()
    store_seconds: float = 0.002
    skew: float = 0.0
    deaths: float = 0.0
    work: float = 0.02
    long: float = 0.0
    settle: float = 3600.0
    tasks: int = 12
    max_queued: int = 1_000_000
    listens: bool = False

    @property
    def names(self) -> list[str]:
        """All processes that can be faulted."""
        workers = [f"w{number}" for number in range(1, self.workers + 1)]
        clients = [f"c{number}" for number in range(1, self.clients + 1)]
        return [CONTROL, *workers, *clients, *([LISTENER] if self.listens else [])]

    def without(self, index: int) -> Plan:
        """The same, but for one fault."""
        return replace(self, faults=self.faults[:index] + self.faults[index + 1 :])

    def lines(self) -> Iterator[str]:
        """What goes wrong, for people."""
        frames = [
            f"{name} {value:.3g}"
            for name in ("loss", "duplicate", "delay", "reorder")
            if (value := getattr(self.messages, name))
        ]
        store = "a durable store" if self.is_durable else "a store in memory"
        yield f"{self.workers} subworkers, {self.clients} clients, {store}"
        if frames:
            yield "frames: " + ", ".join(frames)
        yield from map(str, self.faults)

    def to_json(self) -> str:
        """All of it, for :meth:`from_json`."""
        return json.dumps({**asdict(self), "messages": _probabilities(self.messages)})

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """A plan from what :meth:`to_json` gave."""
        fields = json.loads(text)
        fields["messages"] = Faults(**fields["messages"])
        fields["faults"] = tuple(Fault(**fault) for fault in fields["faults"])
        return cls(**fields)


def _probabilities(faults: Faults) -> dict[str, float]:
    return {name: getattr(faults, name) for name in ("loss", "duplicate", "delay", "reorder")}


def draw_plan(
    seed: int,
    *,
    workers: int | None = None,
    clients: int | None = None,
    kinds: tuple[str, ...] | None = None,
    is_durable: bool | None = None,
) -> Plan:
    """Draw a run from a seed.

    Args:
      seed: any integer.
      workers, clients: how many, if that is not to be drawn.
      kinds: which faults may happen, by default all; "messages" are those of frames.
      is_durable: which kind of store, if that is not to be drawn.

    Raises:
      ConfigurationError: there is no such kind of fault.
    """
    allowed = (*KINDS, "messages") if kinds is None else kinds
    unknown = [kind for kind in allowed if kind not in (*KINDS, "messages")]
    if unknown:
        raise ConfigurationError(
            f"{unknown[0]!r} is no kind of fault; there are {', '.join(KINDS)} and messages"
        )
    random = Random(f"{seed}/plan")  # noqa: S311
    plan = Plan(
        seed,
        workers=random.choice([1, 2, 2, 3]) if workers is None else workers,
        clients=random.choice([1, 1, 2]) if clients is None else clients,
        slots=random.choice([1, 2, 4]),
        is_durable=random.random() < 0.7 if is_durable is None else is_durable,
        is_blocking=random.random() < 0.6,
        storm=random.choice([1.0, 4.0, 12.0, 30.0, 90.0]) * random.uniform(0.5, 1.0),
        store_seconds=random.choice([0.002, 0.002, 0.05, 0.4]),
        skew=random.choice([0.0, 0.0, 0.5, 3600.0]),
        deaths=random.choice([0.0, 0.0, 0.2]),
        work=random.choice([0.02, 0.3, 2.0]),
        long=random.choice([0.0, 0.05, 0.3]),
        tasks=random.choice([3, 5, 8, 14]),
        max_queued=random.choice([1_000_000] * 7 + [4]),
        listens=True,
    )
    messages = Faults()
    if "messages" in allowed and random.random() < 0.5:
        messages = Faults(
            loss=random.choice([0.0, 0.0, 0.02, 0.1, 0.3]),
            duplicate=random.choice([0.0, 0.0, 0.1, 0.5]),
            delay=random.choice([0.0, 0.001, 0.05, 0.4]),
            reorder=random.choice([0.0, 0.0, 0.1, 0.5]),
        )
    return replace(plan, messages=messages, faults=_draw_faults(random, plan, allowed))


def _draw_faults(random: Random, plan: Plan, allowed: tuple[str, ...]) -> tuple[Fault, ...]:
    # Few kinds at a time: each has runs in which nothing else is in its way.
    possible = [kind for kind in KINDS if kind in allowed]
    count = random.choice([0, 1, 1, 2, 3, len(KINDS)])
    kinds = random.sample(possible, min(count, len(possible)))
    if not kinds:
        return ()
    every = plan.storm / random.choice([1, 4, 10, 25])
    faults: list[Fault] = []
    at = random.expovariate(1 / every)
    while at < plan.storm and len(faults) < 30:
        faults.append(_draw_fault(random, plan, random.choice(kinds), at))
        at += random.expovariate(1 / every)
    return tuple(faults)


def _draw_fault(random: Random, plan: Plan, kind: str, at: float) -> Fault:
    name, other = random.choice(plan.names), ""
    seconds = random.choice([0.01, 0.3, 1.5, 8.0, 40.0, 60.0, plan.storm / 2])
    seconds *= random.uniform(0.5, 1.2)
    steps = random.choice([0, 0, 1, 2, 5, 15])
    match kind:
        case "partition" | "partition one way" | "unplug":
            # Of workers more can be lost than of clients.
            workers = plan.names[1 : 1 + plan.workers]
            name, other = random.choice([*plan.names[1:], *workers]), CONTROL
            if kind == ONE_WAY_CUT and random.random() < 0.5:
                name, other = other, name
        case "store full" | "store torn":
            name = CONTROL
        case "reset":
            seconds = 0.0
        case "drain":
            name = random.choice(plan.names[: 1 + plan.workers])
            seconds = 0.0
        case _:
            pass
    return Fault(round(at, 6), kind, name, round(seconds, 6), other, steps)
