"""What happens by the clock: renewal, expiry, pruning, checkpoints.

Jobs are declared in code and rebuilt at each start. The scheduler is APScheduler; the store keeps each job's last run,
so that what was missed while we were down is made up at the next start.
"""

from citadel.jobs.jobs import Jobs
from citadel.jobs.model import Cron, Every, Job, JobRun, JobStatus
from citadel.jobs.ports import JobMeter, JobStore, Leases, Run

__all__ = ["Cron", "Every", "Job", "JobMeter", "JobRun", "JobStatus", "JobStore", "Jobs", "Leases", "Run"]
