"""Schemes are plans, and plans are data: they are compared with stages written by hand."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lalm import plugins
from lalm.errors import ConfigError
from lalm.records import Pools, Stage

# schemes over others take the options of their base
ALONE = [name for name in plugins.names("schemes") if not hasattr(plugins.load("schemes", name), "tasks")]
POOLS = Pools(num_text=432, num_speech=22)
NO_SPEECH = Pools(num_text=432, num_speech=0)


def plan(name: str, pools: Pools = POOLS, **options) -> list[Stage]:
    module = plugins.load("schemes", name)
    return module.plan(plugins.configure(module, options, "scheme"), pools)


def test_text_only_is_three_epochs_of_text():
    stage = Stage("text", {"text": 1.0, "synthetic": 0.0}, epochs=3, learning_rate_scale=1.0, warmup_ratio=0.04)
    assert plan("text_only") == [stage]
    assert plan("text_only", NO_SPEECH) == [stage], "recordings that are there are not used"


def test_direct_mixing_is_three_epochs_of_everything():
    passes = {"text": 1.0, "speech": 1.0, "synthetic": 0.0}
    assert plan("direct_mixing") == [Stage("mixed", passes, epochs=3, warmup_ratio=0.04)]


def test_direct_mixing_with_one_pass_sees_a_third_of_the_recordings_each_epoch():
    (stage,) = plan("direct_mixing", speech_passes=1)
    assert stage.passes == {"text": 1.0, "speech": pytest.approx(1 / 3), "synthetic": 0.0}
    assert stage.epochs * stage.passes["speech"] == pytest.approx(1)


def test_the_curriculum_is_two_epochs_of_text_and_one_mixed_with_its_own_schedule():
    text = Stage("text", {"text": 1.0, "synthetic": 0.0}, epochs=2, learning_rate_scale=1.0, warmup_ratio=0.04)
    mixed = Stage(
        "mixed", {"text": 1.0, "speech": 3.0, "synthetic": 0.0}, epochs=1, learning_rate_scale=0.6, warmup_ratio=0.02
    )
    assert plan("curriculum") == [text, mixed]


def test_the_curriculum_with_one_pass_hears_every_recording_once():
    assert plan("curriculum", speech_passes=1)[1].passes["speech"] == 1.0
    assert plan("curriculum", speech_passes=3, num_mixed_epochs=2)[1].passes["speech"] == 1.5


def test_speech_only_is_three_epochs_of_recordings():
    passes = {"speech": 1.0, "synthetic": 0.0}
    assert plan("speech_only") == [Stage("speech", passes, epochs=3, warmup_ratio=0.04)]
    with pytest.raises(ConfigError, match=r"speech_only.*recordings.*text_only"):
        plan("speech_only", NO_SPEECH)


@pytest.mark.parametrize("passes", [1, 3])
def test_direct_mixing_and_curriculum_hear_and_read_the_same_in_all(passes):
    totals = []
    for name in ("direct_mixing", "curriculum"):
        stages = plan(name, speech_passes=passes)
        totals.append([sum(s.epochs * s.passes.get(pool, 0) for s in stages) for pool in ("text", "speech")])
    assert totals[0] == pytest.approx([3, passes])
    assert totals[0] == pytest.approx(totals[1])


@pytest.mark.parametrize("name", ["direct_mixing", "curriculum"])
def test_without_recordings_no_pass_over_them_is_planned(name):
    assert all(stage.passes.get("speech", 0) == 0 for stage in plan(name, NO_SPEECH))


@pytest.mark.parametrize("name", ALONE)
def test_synthetic_speech_is_an_option_of_every_scheme(name):
    assert all(stage.passes["synthetic"] == 0 for stage in plan(name))
    assert all(stage.passes["synthetic"] == 0.5 for stage in plan(name, synthetic_passes=0.5))


@pytest.mark.parametrize("name", ALONE)
def test_a_plan_is_pure_and_wrong_options_are_named(name):
    assert plan(name) == plan(name)
    with pytest.raises(ConfigError, match=r"warmup_ratoi.*Did you mean 'warmup_ratio'"):
        plan(name, warmup_ratoi=0.1)
    with pytest.raises(ConfigError, match="synthetic_passes"):
        plan(name, synthetic_passes=-1)


def test_every_scheme_of_the_study_is_there():
    assert {"text_only", "direct_mixing", "curriculum", "speech_only"} <= set(plugins.names("schemes"))


def test_planning_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from lalm import plugins\nfrom lalm.records import Pools\n"
        "for name in plugins.names('schemes'):\n"
        "    module = plugins.load('schemes', name)\n"
        "    assert module.plan(module.Config(), Pools(3, 2, 1))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
