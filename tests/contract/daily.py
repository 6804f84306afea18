"""The machines, a day at a time."""

from dataclasses import replace

from tests.contract.machines import project as machines

project = replace(machines, chunk_days=1)
