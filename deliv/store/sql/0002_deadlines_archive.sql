-- Deadlines of jobs, and the archive for jobs that ended long ago.
--
-- The archive's tables have the columns of `jobs` and `job_events`, but neither their triggers nor
-- the indexes that only serve unfinished jobs. A migration that changes the ones changes the others.

ALTER TABLE jobs
ADD COLUMN IF NOT EXISTS deadline TIMESTAMP(6) NULL DEFAULT NULL
  COMMENT 'by when the submitter wants the product',
ADD COLUMN IF NOT EXISTS deadline_passed TIMESTAMP(6) NULL DEFAULT NULL
  COMMENT 'when deliv saw that and wanted the copy stopped at FTS',
ADD KEY IF NOT EXISTS deadline (status, deadline) COMMENT 'what has to end now';

CREATE TABLE IF NOT EXISTS jobs_archive LIKE jobs;

ALTER TABLE jobs_archive
DROP KEY IF EXISTS destination_key,
DROP KEY IF EXISTS idempotency_digest,
DROP KEY IF EXISTS turn,
DROP KEY IF EXISTS due,
DROP KEY IF EXISTS polled,
DROP KEY IF EXISTS fts_jobid,
DROP KEY IF EXISTS deadline,
ADD KEY IF NOT EXISTS repeated (idempotency_digest) COMMENT 'a key may serve again after a time';

CREATE TABLE IF NOT EXISTS job_events_archive LIKE job_events;
