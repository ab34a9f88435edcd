-- Products of many files: the files of a job, as the stager reported them, and what became of each.
--
-- A report is stored in batches under an id of its own, and counts when `jobs.report` names it. A job
-- without one has a single file, and nothing in these tables. The release before neither reads nor
-- writes them: it goes on with jobs of one file.
--
-- A file is WAITING until it is there or can't be: with `attempt` 0 it was never tried, else another
-- attempt may. It is ASSIGNED while the job's transfer, `jobs.fts_jobid`, has it.

ALTER TABLE jobs
ADD COLUMN IF NOT EXISTS report BINARY(16) NULL
  COMMENT 'the report whose files are this job''s; NULL: it has one file, or none yet',
ADD COLUMN IF NOT EXISTS report_digest BINARY(32) NULL
  COMMENT 'SHA-256 of that report with its code',
ADD COLUMN IF NOT EXISTS slice INT UNSIGNED NOT NULL DEFAULT 0
  COMMENT 'which transfer of the attempt, counted from 0',
ADD COLUMN IF NOT EXISTS files_directory TEXT NULL COMMENT 'URL below which the files are delivered',
ADD COLUMN IF NOT EXISTS files_total INT UNSIGNED NULL,
ADD COLUMN IF NOT EXISTS files_done INT UNSIGNED NULL,
ADD COLUMN IF NOT EXISTS bytes_total BIGINT UNSIGNED NULL
  COMMENT 'NULL also where the size of a file was not announced',
ADD COLUMN IF NOT EXISTS bytes_done BIGINT UNSIGNED NULL;

ALTER TABLE jobs_archive
ADD COLUMN IF NOT EXISTS report BINARY(16) NULL
  COMMENT 'the report whose files are this job''s; NULL: it has one file, or none yet',
ADD COLUMN IF NOT EXISTS report_digest BINARY(32) NULL
  COMMENT 'SHA-256 of that report with its code',
ADD COLUMN IF NOT EXISTS slice INT UNSIGNED NOT NULL DEFAULT 0
  COMMENT 'which transfer of the attempt, counted from 0',
ADD COLUMN IF NOT EXISTS files_directory TEXT NULL COMMENT 'URL below which the files are delivered',
ADD COLUMN IF NOT EXISTS files_total INT UNSIGNED NULL,
ADD COLUMN IF NOT EXISTS files_done INT UNSIGNED NULL,
ADD COLUMN IF NOT EXISTS bytes_total BIGINT UNSIGNED NULL
  COMMENT 'NULL also where the size of a file was not announced',
ADD COLUMN IF NOT EXISTS bytes_done BIGINT UNSIGNED NULL;

CREATE TABLE IF NOT EXISTS job_files (
  job_id VARCHAR(36) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL,
  report BINARY(16) NOT NULL,
  number INT UNSIGNED NOT NULL COMMENT 'its place in the report, counted from 1',
  name TEXT NOT NULL COMMENT 'relative to the staged directory',
  name_key BINARY(16) NOT NULL COMMENT 'BLAKE2b-128 of the name in Unicode''s normal form C',
  size BIGINT UNSIGNED NULL COMMENT 'bytes: as announced, else as copied',
  checksum VARCHAR(255) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL
    COMMENT 'ALGORITHM:hexadecimal',
  state ENUM('WAITING', 'ASSIGNED', 'FINISHED', 'FAILED')
    CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL DEFAULT 'WAITING',
  attempt INT UNSIGNED NOT NULL DEFAULT 0
    COMMENT 'the attempt of the job in which it was tried last; 0: never',
  slice INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'the transfer of that attempt which had it',
  error_class VARCHAR(32) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL,
  reason TEXT NULL COMMENT 'why it is not there',
  partial BOOLEAN NOT NULL DEFAULT FALSE
    COMMENT 'an attempt may have left (part of) a file at its destination',
  copy_begun BOOLEAN NOT NULL DEFAULT FALSE
    COMMENT 'FTS has recorded that a copy had begun there',
  corrupt_source BOOLEAN NOT NULL DEFAULT FALSE COMMENT 'another staged copy is needed',
  destination_key BINARY(32) NULL
    COMMENT 'SHA-256 of the URL of its destination file while this job may write it',
  PRIMARY KEY (job_id, report, number),
  UNIQUE KEY name_key (job_id, report, name_key),
  KEY state (job_id, report, state, attempt, number) COMMENT 'what is to be tried next'
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS job_files_archive LIKE job_files;

ALTER TABLE job_files_archive
DROP KEY IF EXISTS name_key;

-- A destination file has one writer, whether a job's only file or one of many: both take their keys
-- here, by triggers, for the release before too. Who finds a key taken gets a duplicate key.
CREATE TABLE IF NOT EXISTS destination_writers (
  destination_key BINARY(32) NOT NULL COMMENT 'SHA-256 of the URL of the file',
  job_id VARCHAR(36) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL,
  PRIMARY KEY (destination_key)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE OR REPLACE TRIGGER jobs_writer AFTER UPDATE ON jobs FOR EACH ROW
BEGIN
  IF NOT NEW.destination_key <=> OLD.destination_key THEN
    DELETE FROM destination_writers
      WHERE destination_key = OLD.destination_key AND job_id = NEW.job_id;
    IF NEW.destination_key IS NOT NULL THEN
      INSERT INTO destination_writers (destination_key, job_id)
        VALUES (NEW.destination_key, NEW.job_id);
    END IF;
  END IF;
END;

CREATE OR REPLACE TRIGGER job_files_writer AFTER UPDATE ON job_files FOR EACH ROW
BEGIN
  IF NOT NEW.destination_key <=> OLD.destination_key THEN
    DELETE FROM destination_writers
      WHERE destination_key = OLD.destination_key AND job_id = NEW.job_id;
    IF NEW.destination_key IS NOT NULL THEN
      INSERT INTO destination_writers (destination_key, job_id)
        VALUES (NEW.destination_key, NEW.job_id);
    END IF;
  END IF;
END;

-- The keys that jobs have taken already, while none changes.
LOCK TABLES jobs READ, destination_writers WRITE;

REPLACE INTO destination_writers (destination_key, job_id)
SELECT destination_key, job_id FROM jobs WHERE destination_key IS NOT NULL;

UNLOCK TABLES;

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
      AND NEW.submitter_limited <=> OLD.submitter_limited
      AND NEW.report <=> OLD.report
      AND NEW.report_digest <=> OLD.report_digest
      AND NEW.slice <=> OLD.slice
      AND NEW.files_directory <=> OLD.files_directory
      AND NEW.files_total <=> OLD.files_total
      AND NEW.files_done <=> OLD.files_done
      AND NEW.bytes_total <=> OLD.bytes_total
      AND NEW.bytes_done <=> OLD.bytes_done) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a job that has ended keeps its values';
  END IF;
END;

CREATE OR REPLACE TRIGGER jobs_files BEFORE UPDATE ON jobs FOR EACH ROW FOLLOWS jobs_ended
BEGIN
  IF NOT NEW.report <=> OLD.report AND NEW.status <> 'STAGING' THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a report counts in STAGING only';
  END IF;
  -- The release before takes such a job for one of a single file: it can't transfer it.
  IF NEW.report IS NOT NULL AND NEW.destination_key IS NOT NULL
      AND NOT (NEW.report <=> OLD.report AND NEW.destination_key <=> OLD.destination_key) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'each file of a list has a destination of its own';
  END IF;
  IF NEW.status = 'SUCCESS' AND OLD.status <> 'SUCCESS' AND NEW.report IS NOT NULL
      AND NOT NEW.files_done <=> NEW.files_total THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a job is SUCCESS when each of its files is there';
  END IF;
END;

-- Files are with the job's transfer: when that is given up, or the job ends, those that are not
-- recorded yet wait again. Whether something was left of them is as open as it is for the job.
CREATE OR REPLACE TRIGGER jobs_files_return AFTER UPDATE ON jobs FOR EACH ROW
BEGIN
  IF OLD.report IS NOT NULL AND OLD.fts_jobid IS NOT NULL AND (
      NOT NEW.fts_jobid <=> OLD.fts_jobid
      OR (NEW.status IN ('SUCCESS', 'ERROR', 'CANCELLED') AND NEW.status <> OLD.status)) THEN
    UPDATE job_files
      SET state = 'WAITING', partial = partial OR NEW.partial,
        copy_begun = copy_begun AND NOT NEW.partial
      WHERE job_id = NEW.job_id AND report = OLD.report AND state = 'ASSIGNED';
  END IF;
END;

CREATE OR REPLACE TRIGGER job_files_begin BEFORE INSERT ON job_files FOR EACH ROW
BEGIN
  IF NOT EXISTS (
      SELECT 1 FROM jobs WHERE job_id = NEW.job_id AND status = 'STAGING'
      AND NOT report <=> NEW.report) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'files are added in STAGING, until their report counts';
  END IF;
END;

CREATE OR REPLACE TRIGGER job_files_change BEFORE UPDATE ON job_files FOR EACH ROW
BEGIN
  IF NOT (NEW.job_id <=> OLD.job_id AND NEW.report <=> OLD.report AND NEW.number <=> OLD.number
      AND NEW.name <=> OLD.name AND NEW.name_key <=> OLD.name_key
      AND NEW.checksum <=> OLD.checksum AND (OLD.size IS NULL OR NEW.size <=> OLD.size)) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a file stays what was reported';
  END IF;
  IF OLD.state = 'FINISHED' THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a file that is there is never changed';
  END IF;
  IF NEW.state <> OLD.state AND NOT (
      (OLD.state = 'WAITING' AND NEW.state IN ('ASSIGNED', 'FAILED'))
      OR (OLD.state = 'ASSIGNED' AND NEW.state IN ('WAITING', 'FINISHED', 'FAILED'))) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a file can not go on like this';
  END IF;
  IF NEW.state = 'ASSIGNED' AND NOT EXISTS (
      SELECT 1 FROM jobs WHERE job_id = NEW.job_id AND report = NEW.report
      AND status = 'TRANSFERRING' AND fts_jobid IS NOT NULL) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'files are assigned to a transfer of their job';
  END IF;
  IF NOT (OLD.state = 'ASSIGNED' AND NEW.state = 'WAITING') AND NOT EXISTS (
      SELECT 1 FROM jobs WHERE job_id = NEW.job_id
      AND status NOT IN ('SUCCESS', 'ERROR', 'CANCELLED')) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a file of a job that has ended keeps its values';
  END IF;
  IF NEW.state <> 'ASSIGNED' THEN
    SET NEW.destination_key = NULL;
  END IF;
END;

-- What no job counts may go at any time, what one counts only to the archive.
CREATE OR REPLACE TRIGGER job_files_leave BEFORE DELETE ON job_files FOR EACH ROW
BEGIN
  IF EXISTS (SELECT 1 FROM jobs WHERE job_id = OLD.job_id AND report = OLD.report)
      AND NOT EXISTS (
        SELECT 1 FROM job_files_archive
        WHERE job_id = OLD.job_id AND report = OLD.report AND number = OLD.number) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a file is removed only when the archive has it';
  END IF;
END;

CREATE OR REPLACE TRIGGER job_files_archive_copy AFTER INSERT ON job_files_archive FOR EACH ROW
BEGIN
  IF NOT EXISTS (
      SELECT 1 FROM job_files AS original
      JOIN job_files_archive AS copy USING (job_id, report, number)
      JOIN jobs USING (job_id, report)
      WHERE job_id = NEW.job_id AND report = NEW.report AND number = NEW.number
      AND jobs.status IN ('SUCCESS', 'ERROR', 'CANCELLED')
      AND original.name <=> copy.name
      AND original.name_key <=> copy.name_key
      AND original.size <=> copy.size
      AND original.checksum <=> copy.checksum
      AND original.state <=> copy.state
      AND original.attempt <=> copy.attempt
      AND original.slice <=> copy.slice
      AND original.error_class <=> copy.error_class
      AND original.reason <=> copy.reason
      AND original.partial <=> copy.partial
      AND original.copy_begun <=> copy.copy_begun
      AND original.corrupt_source <=> copy.corrupt_source
      AND original.destination_key <=> copy.destination_key) THEN
    SIGNAL SQLSTATE '45000'
      SET MESSAGE_TEXT = 'the archive takes files of ended jobs alone, as they are';
  END IF;
END;

CREATE OR REPLACE TRIGGER job_files_archive_keep BEFORE UPDATE ON job_files_archive FOR EACH ROW
BEGIN
  SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'an archived file is never changed';
END;

-- The release before archives without these columns: they are the job's, whoever moves it.
CREATE OR REPLACE TRIGGER jobs_archive_files BEFORE INSERT ON jobs_archive FOR EACH ROW
BEGIN
  DECLARE original_report BINARY(16);
  DECLARE original_digest BINARY(32);
  DECLARE original_slice, original_total, original_done INT UNSIGNED;
  DECLARE original_directory TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
  DECLARE original_bytes, original_bytes_done BIGINT UNSIGNED;
  SELECT report, report_digest, slice, files_directory, files_total, files_done, bytes_total,
    bytes_done
    INTO original_report, original_digest, original_slice, original_directory, original_total,
    original_done, original_bytes, original_bytes_done
    FROM jobs WHERE job_id = NEW.job_id;
  SET NEW.report = original_report, NEW.report_digest = original_digest,
    NEW.slice = COALESCE(original_slice, 0), NEW.files_directory = original_directory,
    NEW.files_total = original_total, NEW.files_done = original_done,
    NEW.bytes_total = original_bytes, NEW.bytes_done = original_bytes_done;
END;
