"""A stream that does not stop for the faults in it: 3,000 events a second, and a fault a minute, drawn by the seed."""

from __future__ import annotations

import functools
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support import history
from support.guests import Guests
from support.network import Network, network
from support.oracle import WAIT_S, Names, committed, create_topics, ends
from support.places import Places
from support.services import Service
from support.waiting import wait_until

from bench.stage import Feeder

SLICE_S = 5
# A process that starts on a machine with ten times as much to do needs minutes.
STARTED_S = 400.0
MEGABYTE = 1 << 20
# What a process may log a second on average, faults included; flat means that it does not depend on the events.
MAX_LINES_PER_S = 25.0
TORN = "driftline_scorer_torn_records_total"


@dataclass
class Life:
    """One scorer process and what it held when it had come to rest."""

    service: Service
    born: float
    held: tuple[int, int] | None = None  # tasks and sockets
    memory: list[int] = field(default_factory=list)  # after each fault


class Pair:
    """Two scorers, one of them behind a proxy; a killed one is followed by another."""

    def __init__(self, net: Network, names: Names, bundle: Path, folder: Path) -> None:
        self._net, self._names, self._bundle, self._folder = net, names, bundle, folder
        self.lives: list[Life] = []
        self._torn = 0  # seen by processes that were killed
        self.now = [self._born(0), self._born(1)]

    def _born(self, place: int) -> Life:
        way = self._net.broker.bootstrap_servers if place else self._net.proxies[0].address
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": way,
            "SCORER_MODEL": str(self._bundle),
            **self._names.environment,
        }
        log = self._folder / f"scorer-{len(self.lives) + 1}.log"
        self.lives.append(Life(Service("scorer", environment, log), time.monotonic()))
        return self.lives[-1]

    def replace(self, place: int) -> None:
        """SIGKILL, and a new process at once."""
        self._torn += int(self.now[place].service.metric(TORN))
        self.now[place].service.kill()
        self.now[place] = self._born(place)

    def torn(self) -> int:
        """Return how many records were answered again because the broker took back the end of their transaction."""
        return self._torn + sum(int(life.service.metric(TORN)) for life in self.now)

    def at_rest(self) -> bool:
        return all(life.service.reasons() == [] and life.service.assigned() == 2 for life in self.now)

    def look(self) -> str:
        """One line; the first look of each life is what the others are held against."""
        told = []
        for life in self.now:
            service = life.service
            held = service.tasks(), service.sockets()
            life.held = life.held or held
            life.memory.append(service.memory_bytes())
            megabytes = f"{life.memory[-1] / 1e6:.0f} MB"
            told.append(f"{held[0]} tasks {held[1]} sockets {megabytes} {len(service.log_lines())} lines")
        return "; ".join(told)

    def check_flat(self) -> None:
        """Tasks and sockets as at the first look, a log that does not flood, and memory that came to its height early.

        After its first backlog a process has the memory of its largest batches; a short life cannot distinguish it from
        a leak.
        """
        for life in self.now:
            tasks, sockets = life.held or (0, 0)
            service = life.service
            wait_until(
                lambda s=service, t=tasks, n=sockets: s.tasks() <= t + 2 and s.sockets() <= n + 2,
                f"{tasks} tasks and {sockets} sockets as at first",
            )
            half = len(life.memory) // 2
            if half >= 2:
                assert life.memory[-1] < max(life.memory[:half]) + 60 * MEGABYTE, life.memory
        for life in self.lives:
            lines = len(life.service.log_lines())
            assert lines < MAX_LINES_PER_S * max(20.0, time.monotonic() - life.born), life.service.log

    def check_conservation(self) -> list[int]:
        """In each process consumed = predicted + dead-lettered; how many each has consumed."""
        consumed = []
        for life in self.now:
            m = life.service.metric
            of = {o: m("driftline_scorer_records_total", outcome=o) for o in ("predicted", "dead_lettered")}
            consumed.append(int(m("driftline_scorer_consumed_records_total")))
            assert consumed[-1] == sum(of.values())
            assert m("driftline_scorer_predictions_total") == of["predicted"]
            assert m("driftline_scorer_dead_letters_total") == of["dead_lettered"]
        return consumed


def faults(net: Network, pair: Pair, names: Names, draw: random.Random) -> dict[str, Callable[[], None]]:
    """What may happen; each ends with nothing broken."""

    def freeze() -> None:
        frozen = pair.now[draw.randrange(2)].service
        frozen.suspend()
        time.sleep(8.0)  # the group's patience is 6 s
        frozen.resume()

    def cut() -> None:
        net.proxies[0].cut()
        time.sleep(5.0)
        net.proxies[0].heal()

    def restart() -> None:
        net.broker.stop()
        net.broker.start()

    def crowd() -> None:
        guests = Guests(net.broker.bootstrap_servers, names, stays=4, seed=draw.randrange(1 << 32))
        guests.join(WAIT_S)
        assert guests.stays == 4

    return {
        "SIGKILL of a scorer": lambda: pair.replace(draw.randrange(2)),
        "SIGSTOP of a scorer for 8 s": freeze,
        "network cut for 5 s": cut,
        "broker restarted": restart,
        "four rebalances": crowd,
    }


class Stream(threading.Thread):
    """Events at a steady pace until it is ended; `sent` once it has."""

    def __init__(self, bootstrap: str, bundle: Path, topic: str, rate: int) -> None:
        super().__init__(name="stream", daemon=True)
        self._servers, self._bundle, self._topic, self._rate = bootstrap, bundle, topic, rate
        self._ended = threading.Event()
        self.sent = 0
        self.start()

    def run(self) -> None:
        with Feeder(self._servers, self._bundle) as feeder:
            while not self._ended.is_set():
                feeder.send(self._topic, self._rate, self._rate * SLICE_S)
                self.sent += self._rate * SLICE_S

    def end(self) -> int:
        """What was sent, all of it acknowledged."""
        self._ended.set()
        self.join(WAIT_S)
        assert not self.is_alive()
        return self.sent


def all_is_equal(sent: int, bootstrap: str, names: Names, places: Places, pair: Pair, worker: Service) -> str:
    """The counts of the same events by the log, the group, the reader, the scorers and the drift worker."""
    wait_until(lambda: places.answers >= sent, f"{sent} answers", 600)
    counted = "driftline_drift_counted_events_total"
    least = {names.events: sent, names.predictions: sent - places.dead_letters}
    for topic, records in least.items():
        counts = functools.partial(worker.metric, counted, topic=topic)
        wait_until(lambda counts=counts, records=records: counts() >= records, f"{topic} is counted", 600)
    drift = [int(worker.metric(counted, topic=topic)) for topic in least]
    log = ends(bootstrap, names.events)
    offsets = committed(bootstrap, names.group, names.events)
    consumed = pair.check_conservation()
    lost = places.lost(log)
    history.verdict(sent, len(lost), len(places.doubled))
    told = (
        f"sent {sent}, in the log {sum(log.values())}, committed {sum(offsets.values())}, answered {places.answers} "
        f"({places.dead_letters} dead letters), lost {len(lost)}, doubled {len(places.doubled)}, consumed by the "
        f"scorers alive {consumed}, counted by the drift worker {drift} (events, predictions)"
    )
    assert not places.doubled, (told, places.doubled[:5])
    assert not lost, (told, lost[:5])
    assert sent == sum(log.values()) == places.answers, told
    assert offsets == log, told
    # What a broker took back after it had acknowledged the commit was counted twice, and the services tell how much.
    torn = pair.torn()
    recounted = int(worker.metric("driftline_drift_torn_records_total", stage="counting"))
    told += f", torn {torn} (scorers), {recounted} (drift worker)"
    assert 0 <= sum(drift) - 2 * sent + places.dead_letters <= recounted, told
    assert sum(consumed) <= sent + torn, told
    return told


@pytest.mark.row
@pytest.mark.timeout(0)  # the requested duration
def test_a_fault_a_minute_loses_and_doubles_nothing(
    topic_prefix: str, telco_bundle: Path, tmp_path: Path, minutes: float, seed: int
) -> None:
    """Every event has one answer, every count of the same thing is equal, and what processes hold does not grow.

    The short form, of every test run, has two faults within half a minute, and 1,000 events a second.
    """
    names, draw = Names(topic_prefix), random.Random(seed)
    count, apart_s, rate = (max(1, round(minutes)), 60.0, 3000) if minutes else (2, 12.0, 1000)

    def say(text: str) -> None:
        sys.stdout.write(f"{time.monotonic() - began:7.1f} s  {text}\n")
        sys.stdout.flush()

    with network(proxies=1) as net:
        bootstrap = net.broker.bootstrap_servers
        create_topics(bootstrap, names)
        places = Places(bootstrap, names)
        pair = Pair(net, names, telco_bundle, tmp_path)
        environment = {"KAFKA_BOOTSTRAP_SERVERS": bootstrap, "SCORER_MODEL": str(telco_bundle), **names.environment}
        try:
            with Service("drift_worker", environment, tmp_path / "drift_worker.log") as worker:
                wait_until(pair.at_rest, "two partitions each", STARTED_S)
                worker.wait_ready(STARTED_S)
                began = time.monotonic()
                stream = Stream(bootstrap, telco_bundle, names.events, rate)
                wait_until(lambda: places.answers > 2 * rate, "the stream flows", STARTED_S)
                say(f"seed {seed}: {pair.look()}")
                possible = faults(net, pair, names, draw)
                for number in range(1, count + 1):
                    what = draw.choice(sorted(possible))
                    history.mark(what)
                    say(f"fault {number} of {count}: {what}")
                    possible[what]()
                    wait_until(pair.at_rest, f"two partitions each after: {what}", STARTED_S)
                    say(f"{places.answers} answers: {pair.look()}")
                    time.sleep(max(0.0, began + number * apart_s - time.monotonic()))
                say(all_is_equal(stream.end(), bootstrap, names, places, pair, worker))
                say(pair.look())
                pair.check_flat()
                assert worker.stop() == 0
            assert [life.service.stop() for life in pair.now] == [0, 0]
        finally:
            for life in pair.lives:
                life.service.__exit__(*sys.exc_info())
            places.close()
