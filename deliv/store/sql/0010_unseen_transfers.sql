-- A transfer that deliv can't look at is not lost: FTS may go on with it, so no other attempt is made.
-- How long it has been so is kept apart from `fts_misses`, looks at which FTS did not know it.

ALTER TABLE jobs
ADD COLUMN IF NOT EXISTS unseen_since TIMESTAMP(6) NULL DEFAULT NULL
COMMENT 'since when FTS does not let deliv see the transfer, or can not be asked about it';

ALTER TABLE jobs_archive
ADD COLUMN IF NOT EXISTS unseen_since TIMESTAMP(6) NULL DEFAULT NULL
COMMENT 'since when FTS does not let deliv see the transfer, or can not be asked about it';

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
      AND NEW.unseen_since <=> OLD.unseen_since
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
