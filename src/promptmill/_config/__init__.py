"""YAML to a typed job: the only reader of job files."""

from promptmill._config.job import Job, load_job
from promptmill._config.schema import job_schema

__all__ = ["Job", "job_schema", "load_job"]
