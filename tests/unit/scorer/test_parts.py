"""Parts of a scorer that end while the rest goes on: a gauge, a word in /health, and the reason."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from support import bundles
from support.waiting import wait_until

from scorer.service import Scorer
from scorer.settings import ScorerSettings


@pytest.fixture
def bundle(tmp_path):
    """A bundle of 60 rows."""
    bundles.write(tmp_path, bundles.fitted())
    return tmp_path


def _seen(scorer, part):
    """The gauge, the word in /health, and the reason there."""
    health = scorer.health()
    up = scorer._registry.get_sample_value("driftline_scorer_part_up", {"part": part})
    found = health["parts"].get(part)
    assert found is None or (found["up"] is (up == 1.0))
    return up, part in health["degraded"], None if found is None else found["reason"]


def test_a_scorer_that_is_not_in_its_group_does_not_score(bundle):
    """The same reasons as in /readyz."""
    scorer = Scorer(ScorerSettings(scorer_model=bundle), "1")
    up, degraded, reason = _seen(scorer, "scoring")
    assert (up, degraded) == (0.0, True)
    assert reason == ", ".join(scorer.health()["reasons"])


def test_a_reloader_that_has_ended_is_down(bundle):
    """A defect ends its thread; the model is served on, and no new one ever is."""
    scorer = Scorer(ScorerSettings(scorer_model=bundle), "1")
    assert _seen(scorer, "reload") == (1.0, False, None)

    def defect():
        raise RuntimeError("a defect")

    scorer._reloader._refresh, scorer._reloader._poll_s = defect, 0.01
    scorer._reloader.start()
    wait_until(lambda: scorer._reloader.failure is not None, "the thread has ended")
    assert _seen(scorer, "reload") == (0.0, True, "RuntimeError: a defect")


def test_a_part_that_the_process_does_not_have_is_absent(bundle):
    """No challenger, no series."""
    assert _seen(Scorer(ScorerSettings(scorer_model=bundle), "1"), "challenger") == (None, False, None)


def test_a_shadow_is_down_until_its_process_serves_and_when_nothing_keeps_it_running(bundle):
    """Starting, refused, served, and the task that restarts the process gone."""
    scorer = Scorer(ScorerSettings(scorer_model=bundle, scorer_challenger=bundle), "1")
    shadow = scorer._work.shadow
    assert _seen(scorer, "challenger") == (0.0, True, "starting")
    refused = msgspec.structs.replace(shadow._condition, state="refused", reason="manifest.json: another signature")
    shadow._set(refused)
    assert _seen(scorer, "challenger") == (0.0, True, "manifest.json: another signature")

    async def never():
        await asyncio.Event().wait()

    async def run():
        shadow._serve = never
        shadow.start()
        shadow._serving.cancel()
        await asyncio.wait([shadow._serving], timeout=30)

    asyncio.run(run())
    assert _seen(scorer, "challenger") == (0.0, True, "the task that keeps its process running has ended")


def test_a_challenger_with_customers_is_down_while_it_has_no_model(bundle, tmp_path_factory):
    """It is loading, its bundle is refused, or its reloader has ended; each with its reason."""
    nothing = tmp_path_factory.mktemp("nothing")
    settings = ScorerSettings(scorer_model=bundle, scorer_challenger=nothing, scorer_challenger_mode="split:10")
    scorer = Scorer(settings, "1")
    assert _seen(scorer, "challenger") == (0.0, True, "loading")
    scorer._challenger_reloader.look()
    up, degraded, reason = _seen(scorer, "challenger")
    assert (up, degraded) == (0.0, True)
    assert "manifest.json" in reason
    bundles.write(nothing, bundles.fitted(), version="2.0.0")
    scorer._challenger_reloader.retry()
    scorer._challenger_reloader.look()
    assert _seen(scorer, "challenger") == (1.0, False, None)
    scorer._challenger_reloader.failure = "MemoryError: no room"
    assert _seen(scorer, "challenger") == (0.0, True, "MemoryError: no room")
