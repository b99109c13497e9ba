"""The dry run of the scenario of published size: sizes and operations against what is known of the model."""

from __future__ import annotations

import pytest

from lalm.bench.dry import as_text, dry_run
from lalm.bench.run import dry
from lalm.bench.scenarios import SCENARIOS
from lalm.errors import UserError


def test_the_published_size_needs_what_its_shape_says():
    found = dry_run(SCENARIOS["qwen2_audio_7b"])
    said = as_text(found)
    assert "8.40 billion weights" in said, "Qwen/Qwen2-Audio-7B-Instruct states 8,397,094,912"
    assert "lalm bench qwen2_audio_7b" in said
    assert found["weights"] == 8_397_094_912
    layer = 4 * 4096 * 4096 + 3 * 4096 * 11_008 + 3 * 4096 + 2 * 4096  # projections, biases of three, two norms
    assert found["flops_a_useful_token"] == 4.0 * 32 * layer
    assert found["adapter_weights"] == 32 * 16 * (4 * 2 * 4096 + 3 * (4096 + 11_008))
    steps = found["flops_a_step"]
    assert steps["counted"] == pytest.approx(steps["bound"], rel=0.05)
    memory = found["memory_gb"]
    assert memory["weights"] == pytest.approx(2 * 8.397 + 4 * found["adapter_weights"] / 1e9, rel=0.01)
    assert memory["weights"] + memory["kept_for_the_way_back"] < memory["total"] < 80


def test_a_scenario_with_real_weights_has_no_dry_run():
    with pytest.raises(UserError, match="real weights"):
        dry(["short"])
    with pytest.raises(UserError, match="There is no scenario"):
        dry(["sort"])
