-- What FTS has is counted in bytes, too, so that turns are given by both.
--
-- A size that is not known counts as nothing, and so does what the release before hands over. Of a
-- transfer FTS is taken to have the same part of the bytes as of the files.

ALTER TABLE jobs
ADD COLUMN IF NOT EXISTS bytes_at_fts BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'of files_at_fts';

ALTER TABLE jobs_archive
ADD COLUMN IF NOT EXISTS bytes_at_fts BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'of files_at_fts';

ALTER TABLE transfers
ADD COLUMN IF NOT EXISTS bytes BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'of its files';

ALTER TABLE transfers_archive
ADD COLUMN IF NOT EXISTS bytes BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'of its files';

CREATE OR REPLACE TRIGGER jobs_ended_transfers BEFORE UPDATE ON jobs FOR EACH ROW FOLLOWS jobs_ended
BEGIN
  IF OLD.status IN ('SUCCESS', 'ERROR', 'CANCELLED') AND NOT (
      NEW.files_at_fts <=> OLD.files_at_fts AND NEW.files_active <=> OLD.files_active
      AND NEW.files_arriving <=> OLD.files_arriving AND NEW.turn_since <=> OLD.turn_since
      AND NEW.bytes_at_fts <=> OLD.bytes_at_fts) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a job that has ended keeps its values';
  END IF;
END;

CREATE OR REPLACE TRIGGER transfers_change BEFORE UPDATE ON transfers FOR EACH ROW
BEGIN
  IF NOT OLD.open THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a transfer that is over is never changed';
  END IF;
  IF NOT (NEW.job_id <=> OLD.job_id AND NEW.attempt <=> OLD.attempt AND NEW.slice <=> OLD.slice
      AND NEW.fts_endpoint <=> OLD.fts_endpoint AND NEW.fts_jobid <=> OLD.fts_jobid
      AND NEW.files <=> OLD.files AND NEW.bytes <=> OLD.bytes) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a transfer stays what was assigned';
  END IF;
  IF NEW.active + NEW.ended > NEW.files OR NEW.arrived > NEW.ended THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a transfer has no more files than were assigned';
  END IF;
END;
