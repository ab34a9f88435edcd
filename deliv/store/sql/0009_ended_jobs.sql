-- What has ended is not changed any more, by SQL either.
--
-- A row of an ended job keeps its values: `jobs_ended` adds to what `jobs_change` holds for every job.
-- Only what deliv's cleanup after the end needs may change. Events are never changed. Jobs and events
-- leave their tables for the archive only, which takes nothing but true copies of ended jobs, and never
-- changes them. Whoever may change the schema can drop these triggers.
--
-- A column that is added to `jobs` belongs into `jobs_ended` at once, and into `jobs_archive_copy` one
-- release later: the release before archives without it.

CREATE OR REPLACE TRIGGER jobs_ended BEFORE UPDATE ON jobs FOR EACH ROW FOLLOWS jobs_change
BEGIN
  -- What is NULL here becomes a column's first value when the session is not strict, or by IGNORE.
  IF NEW.job_id IS NULL OR NEW.submitter IS NULL OR NEW.product_id IS NULL
      OR NEW.destination_path IS NULL OR NEW.status IS NULL OR NEW.attempt IS NULL
      OR NEW.version IS NULL THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'what a job has, it keeps';
  END IF;
  -- Free are due_at and time_released: the cleanup is repeated until the stager and FTS confirm it.
  IF OLD.status IN ('SUCCESS', 'ERROR', 'CANCELLED') AND NOT (
      NEW.version >= OLD.version
      AND (NEW.destination_key IS NULL OR NEW.destination_key <=> OLD.destination_key)
      AND (NEW.idempotency_digest IS NULL OR NEW.idempotency_digest <=> OLD.idempotency_digest)
      AND (NEW.stager_callback IS NULL OR NEW.stager_callback <=> OLD.stager_callback)
      AND NEW.destination_host <=> OLD.destination_host
      AND NEW.detailed_status <=> OLD.detailed_status
      AND NEW.error_class <=> OLD.error_class
      AND NEW.product_size <=> OLD.product_size
      AND NEW.checksum <=> OLD.checksum
      AND NEW.copied_as <=> OLD.copied_as
      AND NEW.deadline <=> OLD.deadline
      AND NEW.deadline_passed <=> OLD.deadline_passed
      AND NEW.cancel_requested <=> OLD.cancel_requested
      AND NEW.time_staging <=> OLD.time_staging
      AND NEW.time_staged <=> OLD.time_staged
      AND NEW.time_transferring <=> OLD.time_transferring
      AND NEW.time_error <=> OLD.time_error
      AND NEW.time_success <=> OLD.time_success
      AND NEW.time_cancelled <=> OLD.time_cancelled
      AND NEW.stager_accepted <=> OLD.stager_accepted
      AND NEW.stager_hostname <=> OLD.stager_hostname
      AND NEW.stager_path <=> OLD.stager_path
      AND NEW.stager_status <=> OLD.stager_status
      AND NEW.fts_endpoint <=> OLD.fts_endpoint
      AND NEW.fts_jobid <=> OLD.fts_jobid
      AND NEW.fts_posted <=> OLD.fts_posted
      AND NEW.fts_misses <=> OLD.fts_misses
      AND NEW.fts_details <=> OLD.fts_details
      AND NEW.partial <=> OLD.partial
      AND NEW.copy_begun <=> OLD.copy_begun
      AND NEW.idempotency_key <=> OLD.idempotency_key
      AND NEW.request_digest <=> OLD.request_digest
      AND NEW.submitter_fqans <=> OLD.submitter_fqans
      AND NEW.submitter_limited <=> OLD.submitter_limited) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a job that has ended keeps its values';
  END IF;
END;

CREATE OR REPLACE TRIGGER jobs_leave BEFORE DELETE ON jobs FOR EACH ROW
BEGIN
  IF NOT EXISTS (
      SELECT 1 FROM jobs_archive WHERE job_id = OLD.job_id AND version = OLD.version) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a job is removed only when the archive has it';
  END IF;
END;

-- The copy is compared once it is stored: MariaDB 10.11 finds `time <=> NEW.time` false in a WHERE.
CREATE OR REPLACE TRIGGER jobs_archive_copy AFTER INSERT ON jobs_archive FOR EACH ROW
BEGIN
  IF NOT EXISTS (
      SELECT 1 FROM jobs JOIN jobs_archive AS copy USING (job_id)
      WHERE job_id = NEW.job_id
      AND jobs.status IN ('SUCCESS', 'ERROR', 'CANCELLED')
      AND jobs.version <=> copy.version
      AND jobs.due_at <=> copy.due_at
      AND jobs.time_released <=> copy.time_released
      AND jobs.stager_callback <=> copy.stager_callback
      AND jobs.destination_key <=> copy.destination_key
      AND jobs.idempotency_digest <=> copy.idempotency_digest
      AND jobs.product_id <=> copy.product_id
      AND jobs.destination_path <=> copy.destination_path
      AND jobs.destination_host <=> copy.destination_host
      AND jobs.submitter <=> copy.submitter
      AND jobs.status <=> copy.status
      AND jobs.attempt <=> copy.attempt
      AND jobs.detailed_status <=> copy.detailed_status
      AND jobs.error_class <=> copy.error_class
      AND jobs.product_size <=> copy.product_size
      AND jobs.checksum <=> copy.checksum
      AND jobs.copied_as <=> copy.copied_as
      AND jobs.deadline <=> copy.deadline
      AND jobs.deadline_passed <=> copy.deadline_passed
      AND jobs.cancel_requested <=> copy.cancel_requested
      AND jobs.time_submitted <=> copy.time_submitted
      AND jobs.time_staging <=> copy.time_staging
      AND jobs.time_staged <=> copy.time_staged
      AND jobs.time_transferring <=> copy.time_transferring
      AND jobs.time_error <=> copy.time_error
      AND jobs.time_success <=> copy.time_success
      AND jobs.time_cancelled <=> copy.time_cancelled
      AND jobs.stager_accepted <=> copy.stager_accepted
      AND jobs.stager_hostname <=> copy.stager_hostname
      AND jobs.stager_path <=> copy.stager_path
      AND jobs.stager_status <=> copy.stager_status
      AND jobs.fts_endpoint <=> copy.fts_endpoint
      AND jobs.fts_jobid <=> copy.fts_jobid
      AND jobs.fts_posted <=> copy.fts_posted
      AND jobs.fts_misses <=> copy.fts_misses
      AND jobs.fts_details <=> copy.fts_details
      AND jobs.partial <=> copy.partial
      AND jobs.idempotency_key <=> copy.idempotency_key
      AND jobs.request_digest <=> copy.request_digest) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the archive takes ended jobs alone, as they are';
  END IF;
END;

CREATE OR REPLACE TRIGGER jobs_archive_keep BEFORE UPDATE ON jobs_archive FOR EACH ROW
BEGIN
  SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'an archived job is never changed';
END;

CREATE OR REPLACE TRIGGER job_events_keep BEFORE UPDATE ON job_events FOR EACH ROW
BEGIN
  SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'an event is never changed';
END;

CREATE OR REPLACE TRIGGER job_events_leave BEFORE DELETE ON job_events FOR EACH ROW
BEGIN
  IF NOT EXISTS (
      SELECT 1 FROM job_events_archive WHERE event_id = OLD.event_id AND job_id = OLD.job_id) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'an event is removed only when the archive has it';
  END IF;
END;

CREATE OR REPLACE TRIGGER job_events_archive_copy AFTER INSERT ON job_events_archive FOR EACH ROW
BEGIN
  IF NOT EXISTS (SELECT 1 FROM jobs_archive WHERE job_id = NEW.job_id) OR NOT EXISTS (
      SELECT 1 FROM job_events AS original JOIN job_events_archive AS copy USING (event_id)
      WHERE event_id = NEW.event_id
      AND original.job_id <=> copy.job_id
      AND original.submitter <=> copy.submitter
      AND original.status <=> copy.status
      AND original.attempt <=> copy.attempt
      AND original.staged <=> copy.staged
      AND original.detailed_status <=> copy.detailed_status
      AND original.error_class <=> copy.error_class
      AND original.time <=> copy.time) THEN
    SIGNAL SQLSTATE '45000'
      SET MESSAGE_TEXT = 'the archive takes events of archived jobs alone, as they are';
  END IF;
END;

CREATE OR REPLACE TRIGGER job_events_archive_keep BEFORE UPDATE ON job_events_archive FOR EACH ROW
BEGIN
  SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'an archived event is never changed';
END;
