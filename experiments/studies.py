"""The studies, in the order of the report."""

from evidence.report.study import Study
from experiments.active_units.study import STUDY as ACTIVE_UNITS
from experiments.bounds.study import STUDY as BOUNDS
from experiments.critic.study import STUDY as CRITIC
from experiments.iwae_table1.study import STUDY as TABLE1
from experiments.iwae_table2.study import STUDY as TABLE2
from experiments.iwae_table3.study import STUDY as TABLE3
from experiments.uivi_toys.study import STUDY as TOYS
from experiments.uivi_vae.study import STUDY as UIVI

STUDIES: tuple[Study, ...] = (TABLE1, ACTIVE_UNITS, BOUNDS, TABLE2, TABLE3, UIVI, TOYS, CRITIC)
