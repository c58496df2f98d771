"""What is missing on a cluster, in one table, before anyone submits."""

from dino4cells.cluster.doctor.checks import examine
from dino4cells.cluster.doctor.rows import Row, State, exit_code
from dino4cells.cluster.doctor.visit import Visit

__all__ = ["Row", "State", "Visit", "examine", "exit_code"]
