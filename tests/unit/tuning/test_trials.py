"""The trials of a sweep on disk: found again by their settings, never judged twice."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from metafuse_ray.errors import CheckpointError
from metafuse_ray.tuning.trials import Trial, TrialStore, best_trial
from tests.support.sweeps import ALPHA, SETTINGS, SHOTS, SPACE, scores, trials


def test_a_trial_is_found_again_by_its_exact_settings(tmp_path: Path):
    store = TrialStore(tmp_path, SPACE)
    settings = {**SETTINGS, ALPHA: 0.1 + 0.2}
    first = store.start(settings)
    assert store.start(settings) == store.read(settings) == first
    assert first.settings == settings  # every bit of the float
    assert store.read({**settings, ALPHA: 0.3}) is None
    assert store.start(SETTINGS).number == 2
    assert [trial.number for trial in store.all()] == [1, 2]


def test_the_folder_of_a_trial_says_its_settings(tmp_path: Path):
    store = TrialStore(tmp_path, SPACE)
    folder = store.folder(SETTINGS)
    assert folder.parent == tmp_path / "trials"
    assert folder.name.startswith("alpha3_beta0.0005_K16_")
    assert store.folder(dict(reversed(SETTINGS.items()))) == folder
    assert store.folder({**SETTINGS, ALPHA: 3.0 + 2**-50}) != folder


def test_scores_add_up_and_a_rung_counts_once(tmp_path: Path):
    store = TrialStore(tmp_path, SPACE)
    low, high = scores((15, 1.5, 90.0), (30, None, 0.0))
    store.add(SETTINGS, low)
    store.add(SETTINGS, low)
    store.add(SETTINGS, high)
    assert store.add(SETTINGS, low).scores == (low, high)
    assert store.all() == [Trial(1, SETTINGS, (low, high))]


@pytest.mark.parametrize(("rounds", "state"), [(15, "finished"), (60, "stopped")])
def test_a_trial_that_ends_is_finished_or_was_stopped(tmp_path: Path, rounds, state):
    store = TrialStore(tmp_path, SPACE)
    store.add(SETTINGS, scores((15, 1.5, 90.0))[0])
    assert store.end(SETTINGS, rounds).state == state
    assert store.all()[0].state == state


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}"),
        json.dumps({"number": 1, "settings": {"x": 1}, "scores": []}),
        json.dumps({"number": 1, "settings": {**SETTINGS, "x": 1}, "scores": []}),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, text):
    store = TrialStore(tmp_path, SPACE)
    store.start(SETTINGS)
    (path,) = tmp_path.rglob("trial.json")
    path.write_text(text)
    with pytest.raises(CheckpointError, match="is damaged") as caught:
        store.all()
    assert caught.value.path == str(path)


def test_the_best_is_a_finished_trial_by_either_measure():
    some = [*trials(), Trial(5, {**SETTINGS, SHOTS: 5}, scores((15, 0.1, 99.0)), "stopped")]
    assert best_trial(some, "jdr").number == 2
    assert best_trial(some, "loss").number == 2
    by_loss = replace(some[0], scores=scores((60, 1.1, 92.0)))
    assert best_trial([by_loss, *some[1:]], "loss").number == 1
    assert best_trial([by_loss, *some[1:]], "jdr").number == 2


def test_of_two_equal_trials_the_earlier_is_best():
    first, second = trials()[:2]
    equal = replace(second, scores=first.scores)
    assert best_trial([equal, first], "jdr").number == 1
