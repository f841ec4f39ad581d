"""`geoclick train sft` with FSDP on CPU processes; accelerate itself gives CPU processes DDP, whatever its file says.

accelerate launch --config_file accelerate_configs/fsdp2.yaml -m tests.train.fsdp_on_cpu ...
"""

import sys

from accelerate import state
from accelerate.utils import DistributedType

from geoclick.train import sft

_init = state.AcceleratorState.__init__


def _init_with_fsdp(self, *args, fsdp_plugin=None, **kwargs):
    _init(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.FSDP
        self.fsdp_plugin = fsdp_plugin
        state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP


if __name__ == "__main__":
    state.AcceleratorState.__init__ = _init_with_fsdp
    sys.exit(sft.main())
