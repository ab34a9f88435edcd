-- What is at a job's destination may be overwritten only where FTS's own record shows that it is the
-- job's. `partial` says less: something may have been left there, by whom is open.

ALTER TABLE jobs
ADD COLUMN IF NOT EXISTS copy_begun BOOLEAN NOT NULL DEFAULT FALSE
COMMENT 'FTS has recorded that a copy of this job had begun at the destination file';

ALTER TABLE jobs_archive
ADD COLUMN IF NOT EXISTS copy_begun BOOLEAN NOT NULL DEFAULT FALSE
COMMENT 'FTS has recorded that a copy of this job had begun at the destination file';
