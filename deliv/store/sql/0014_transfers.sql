-- Transfers: a job with many files has several at FTS at once, each a slice of its files.
--
-- `jobs.fts_jobid` is the one that was assigned last, and NULL when none is open. A job with a single
-- file is its own transfer and has no row here, so that the release before goes on with it.
--
-- A transfer is open from the assignment of its files until these are recorded. One that is still open
-- when its job ends is withdrawn.

ALTER TABLE jobs
ADD COLUMN IF NOT EXISTS files_at_fts INT UNSIGNED NOT NULL DEFAULT 0
  COMMENT 'files of its open transfers that FTS had not ended at the last look',
ADD COLUMN IF NOT EXISTS files_active INT UNSIGNED NOT NULL DEFAULT 0
  COMMENT 'those of them that were being copied',
ADD COLUMN IF NOT EXISTS files_arriving INT UNSIGNED NOT NULL DEFAULT 0
  COMMENT 'files of its open transfers that FTS had copied: files_done counts them when recorded',
ADD COLUMN IF NOT EXISTS turn_since TIMESTAMP(6) NULL COMMENT 'since when it waits for its turn';

ALTER TABLE jobs_archive
ADD COLUMN IF NOT EXISTS files_at_fts INT UNSIGNED NOT NULL DEFAULT 0
  COMMENT 'files of its open transfers that FTS had not ended at the last look',
ADD COLUMN IF NOT EXISTS files_active INT UNSIGNED NOT NULL DEFAULT 0
  COMMENT 'those of them that were being copied',
ADD COLUMN IF NOT EXISTS files_arriving INT UNSIGNED NOT NULL DEFAULT 0
  COMMENT 'files of its open transfers that FTS had copied: files_done counts them when recorded',
ADD COLUMN IF NOT EXISTS turn_since TIMESTAMP(6) NULL COMMENT 'since when it waits for its turn';

CREATE TABLE IF NOT EXISTS transfers (
  job_id VARCHAR(36) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL,
  attempt INT UNSIGNED NOT NULL,
  slice INT UNSIGNED NOT NULL COMMENT 'which transfer of the attempt, counted from 0',
  fts_endpoint VARCHAR(255) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL,
  fts_jobid VARCHAR(255) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL,
  open BOOLEAN NOT NULL DEFAULT TRUE,
  files INT UNSIGNED NOT NULL,
  active INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'files being copied, at the last look',
  ended INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'files that FTS had ended',
  arrived INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'files that are there',
  PRIMARY KEY (job_id, attempt, slice),
  KEY fts_jobid (fts_jobid)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS transfers_archive LIKE transfers;

-- Those that are under way; how many of their files FTS has is seen at the next look.
INSERT IGNORE INTO transfers (job_id, attempt, slice, fts_endpoint, fts_jobid, files)
SELECT jobs.job_id, jobs.attempt, jobs.slice, jobs.fts_endpoint, jobs.fts_jobid, COUNT(*)
FROM jobs JOIN job_files USING (job_id, report)
WHERE jobs.status = 'TRANSFERRING' AND jobs.fts_jobid IS NOT NULL AND job_files.state = 'ASSIGNED'
GROUP BY jobs.job_id, jobs.attempt, jobs.slice, jobs.fts_endpoint, jobs.fts_jobid;

-- Files are with the job's transfers: when these are given up, or the job ends, those that are not
-- recorded yet wait again. Whether something was left of them is as open as it is for the job.
CREATE OR REPLACE TRIGGER jobs_files_return AFTER UPDATE ON jobs FOR EACH ROW
BEGIN
  DECLARE ended BOOLEAN DEFAULT
    NEW.status IN ('SUCCESS', 'ERROR', 'CANCELLED') AND NEW.status <> OLD.status;
  IF OLD.report IS NOT NULL AND OLD.fts_jobid IS NOT NULL AND (ended OR NEW.fts_jobid IS NULL) THEN
    UPDATE job_files
      SET state = 'WAITING', partial = partial OR NEW.partial,
        copy_begun = copy_begun AND NOT NEW.partial
      WHERE job_id = NEW.job_id AND report = OLD.report AND state = 'ASSIGNED';
    IF NOT ended THEN
      UPDATE transfers SET open = FALSE WHERE job_id = NEW.job_id AND open;
    END IF;
  END IF;
END;

CREATE OR REPLACE TRIGGER jobs_ended_transfers BEFORE UPDATE ON jobs FOR EACH ROW FOLLOWS jobs_ended
BEGIN
  IF OLD.status IN ('SUCCESS', 'ERROR', 'CANCELLED') AND NOT (
      NEW.files_at_fts <=> OLD.files_at_fts AND NEW.files_active <=> OLD.files_active
      AND NEW.files_arriving <=> OLD.files_arriving AND NEW.turn_since <=> OLD.turn_since) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a job that has ended keeps its values';
  END IF;
END;

CREATE OR REPLACE TRIGGER transfers_begin BEFORE INSERT ON transfers FOR EACH ROW
BEGIN
  IF NOT NEW.open OR NOT EXISTS (
      SELECT 1 FROM jobs WHERE job_id = NEW.job_id AND status = 'TRANSFERRING'
      AND report IS NOT NULL AND attempt = NEW.attempt AND slice = NEW.slice
      AND fts_endpoint = NEW.fts_endpoint AND fts_jobid = NEW.fts_jobid) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a transfer begins as the newest one of its job';
  END IF;
END;

CREATE OR REPLACE TRIGGER transfers_change BEFORE UPDATE ON transfers FOR EACH ROW
BEGIN
  IF NOT OLD.open THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a transfer that is over is never changed';
  END IF;
  IF NOT (NEW.job_id <=> OLD.job_id AND NEW.attempt <=> OLD.attempt AND NEW.slice <=> OLD.slice
      AND NEW.fts_endpoint <=> OLD.fts_endpoint AND NEW.fts_jobid <=> OLD.fts_jobid
      AND NEW.files <=> OLD.files) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a transfer stays what was assigned';
  END IF;
  IF NEW.active + NEW.ended > NEW.files OR NEW.arrived > NEW.ended THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a transfer has no more files than were assigned';
  END IF;
END;

CREATE OR REPLACE TRIGGER transfers_leave BEFORE DELETE ON transfers FOR EACH ROW
BEGIN
  IF NOT EXISTS (
      SELECT 1 FROM transfers_archive
      WHERE job_id = OLD.job_id AND attempt = OLD.attempt AND slice = OLD.slice) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a transfer is removed only when the archive has it';
  END IF;
END;

CREATE OR REPLACE TRIGGER transfers_archive_keep BEFORE UPDATE ON transfers_archive FOR EACH ROW
BEGIN
  SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'an archived transfer is never changed';
END;
