"""Gradients and optimizer state spread over the processes, the weights whole on each (DeepSpeed's ZeRO stages 1 and 2)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lalm.contracts import Model
from lalm.errors import ConfigError
from lalm.records import Example
from lalm.train.distributed import Alone
from lalm.train.engines import kept
from lalm.train.sharded import InStep

MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW


class Zero(InStep):
    """DeepSpeed, with the settings of the launch configuration.

    It sums gradients in the order in which they come. Where parts that hear are trained that order depends on the rows,
    and sums of unlike weights would be made without a word; so gradients are kept until the end of the step then, and
    summed in the order of the weights.

    A part that hears and met no recording in a whole step has gradients of zero here, where one process leaves it out:
    its moments fade in that step.
    """

    def __init__(self, team: Alone, model: Model, trainable: Sequence[str]) -> None:
        super().__init__(team, model, trainable)
        from accelerate import DeepSpeedPlugin

        plugin = DeepSpeedPlugin()  # reads what the launcher set
        if plugin.zero_stage not in (1, 2):
            raise ConfigError(
                f"zero_stage: {plugin.zero_stage} in the launch configuration. Allowed: 1, 2. To shard weights too, "
                "launch with FSDP2."
            )
        settings = dict(plugin.deepspeed_config)
        for key in ("train_batch_size", "optimizer", "scheduler", "gradient_clipping"):  # the recipe's
            settings.pop(key, None)
        self._settings = settings | {
            "train_micro_batch_size_per_gpu": 1,  # for statistics of its own
            "gradient_accumulation_steps": 1,  # the loop says itself when to step
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
        }
        self._parameters: list[Tensor] = []
        self._engine: Any = None
        self._kept: contextlib.ExitStack | None = None  # open while gradients are kept

    def optimizer(self, parameters: Sequence[Tensor], weight_decay: float) -> Any:
        import deepspeed

        if self._engine is not None:
            self._engine.destroy()
        self._parameters = list(parameters)
        plain = super().optimizer(parameters, weight_decay)
        self._engine, optimizer, _, _ = deepspeed.initialize(model=self._loss, optimizer=plain, config=self._settings)
        return optimizer

    def loss(self, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """DeepSpeed would switch the loop's number format off, so it is handed through."""
        device = self._team.device.type
        numbers = torch.autocast(device, torch.get_autocast_dtype(device), enabled=torch.is_autocast_enabled(device))
        with torch.autocast(device, enabled=False):
            return self._engine(examples, numbers)

    def backward(self, nll: Tensor, is_last: bool) -> None:
        if self._hearing and self._kept is None:
            self._kept = contextlib.ExitStack()
            self._kept.enter_context(self._engine.coalesce_grad_reduction())
        self._engine.set_gradient_accumulation_boundary(is_last and self._kept is None)
        self._engine.backward(nll)
        if is_last and self._kept is not None:
            self._kept.close()
            self._kept = None
            self._engine.set_gradient_accumulation_boundary(True)

    def step(self, optimizer: Any, num_tokens: float, max_norm: float) -> float:
        """A sum over so many tokens is their mean, scaled by their number: DeepSpeed undoes it like any loss scale."""
        optimizer.clip_grad = max_norm
        optimizer.loss_scaler.cur_scale = num_tokens / self._team.size  # it makes means over the processes
        self._engine.step()
        optimizer.loss_scaler.cur_scale = 1.0
        return float(self._engine.get_global_grad_norm())

    def progress(self, optimizer: Any) -> dict[str, Tensor]:
        from deepspeed.utils import safe_get_full_optimizer_state

        state = {}
        for index, parameter in enumerate(self._parameters):
            for key in MOMENTS:
                state[f"{index}/{key}"] = safe_get_full_optimizer_state(parameter, key)
            state[f"{index}/step"] = torch.as_tensor(next(iter(optimizer.state.values()))["step"])
        return kept(state, self._team)

    def load_progress(self, optimizer: Any, progress: Mapping[str, Tensor]) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state

        for flat in optimizer.single_partition_of_fp32_groups:
            optimizer.state[flat] = {"step": progress["0/step"].clone()}
            optimizer.state[flat] |= {key: torch.zeros_like(flat) for key in MOMENTS}
        optimizer._lazy_init_hp_params_optimizer_state()
        for index, parameter in enumerate(self._parameters):
            for key in MOMENTS:
                safe_set_full_optimizer_state(parameter, progress[f"{index}/{key}"].to(parameter.device), key)
