"""What a search needs, imported once by the process from which searches are forked: it begins in a second, not in 12."""

import gc

import alembic.command
import mlflow.store.tracking.sqlalchemy_store
import statsmodels.stats.multitest
from mlflow.utils import requirements_utils

import search.plan.resume
import search.reporting.page
import search.stages.main_job  # noqa: F401

# Which package each module is of: MLflow asks for a model's requirements, which takes a second.
requirements_utils._init_modules_to_packages_map()
gc.freeze()  # no search looks through all that was imported when it collects garbage
