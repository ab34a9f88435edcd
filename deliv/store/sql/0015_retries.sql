-- Retries: a job that ended in ERROR is submitted once more, as another job that names it.
--
-- A job is repeated once at most; when the repetition fails, that one is repeated. The release before
-- neither writes nor reads it: its jobs repeat none, and what it archives keeps what it repeats by
-- `jobs_archive_retry`.

ALTER TABLE jobs
ADD COLUMN IF NOT EXISTS retry_of VARCHAR(36) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL
  COMMENT 'the job that ended in ERROR, and that this one repeats',
ADD UNIQUE KEY IF NOT EXISTS retry_of (retry_of);

ALTER TABLE jobs_archive
ADD COLUMN IF NOT EXISTS retry_of VARCHAR(36) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL
  COMMENT 'the job that ended in ERROR, and that this one repeats',
ADD KEY IF NOT EXISTS retry_of (retry_of);

CREATE OR REPLACE TRIGGER jobs_retry_keep BEFORE UPDATE ON jobs FOR EACH ROW
BEGIN
  IF NOT NEW.retry_of <=> OLD.retry_of THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'what a job repeats will never change';
  END IF;
END;

CREATE OR REPLACE TRIGGER jobs_archive_retry BEFORE INSERT ON jobs_archive FOR EACH ROW
BEGIN
  SET NEW.retry_of = (SELECT retry_of FROM jobs WHERE job_id = NEW.job_id);
END;
