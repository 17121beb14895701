"""Imported by the process from which searches are forked: what each of them would do for ten seconds is done once."""

import gc

from mlflow.utils import requirements_utils

MODULES = (
    "search.plan.resume",
    "search.stages.main_job",
    "search.reporting.page",
    "mlflow.store.tracking.sqlalchemy_store",
    "alembic.command",
    "statsmodels.stats.multitest",
)

for name in MODULES:
    __import__(name)
# Which package each module is of: MLflow asks for a model's requirements, which takes a second.
requirements_utils._init_modules_to_packages_map()
gc.freeze()  # no search looks through all that was imported when it collects garbage
