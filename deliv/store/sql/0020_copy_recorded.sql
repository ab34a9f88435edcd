-- What a job has left is known for its own from FTS's record of any of its transfers.
--
-- `copy_begun` says whether the next attempt may overwrite what is there, and is taken away by an attempt
-- that ends without a record. `copy_recorded` stays, for the job that repeats this one: it looks at the
-- file itself, too. Triggers keep it, also for the release before. It is of one file: another one that the
-- job comes to write has none.

ALTER TABLE jobs
ADD COLUMN IF NOT EXISTS copy_recorded BOOLEAN NOT NULL DEFAULT FALSE
COMMENT 'by FTS of any attempt: its copy had begun at the destination file';

ALTER TABLE jobs_archive
ADD COLUMN IF NOT EXISTS copy_recorded BOOLEAN NOT NULL DEFAULT FALSE
COMMENT 'by FTS of any attempt: its copy had begun at the destination file';

ALTER TABLE job_files
ADD COLUMN IF NOT EXISTS copy_recorded BOOLEAN NOT NULL DEFAULT FALSE
COMMENT 'by FTS of any attempt: its copy had begun there';

ALTER TABLE job_files_archive
ADD COLUMN IF NOT EXISTS copy_recorded BOOLEAN NOT NULL DEFAULT FALSE
COMMENT 'by FTS of any attempt: its copy had begun there';

CREATE OR REPLACE TRIGGER jobs_copy_recorded BEFORE UPDATE ON jobs FOR EACH ROW FOLLOWS jobs_ended
BEGIN
  IF OLD.status IN ('SUCCESS', 'ERROR', 'CANCELLED') THEN
    IF NOT NEW.copy_recorded <=> OLD.copy_recorded THEN
      SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a job that has ended keeps its values';
    END IF;
  ELSEIF NEW.copy_begun THEN
    SET NEW.copy_recorded = TRUE;
  ELSEIF NEW.destination_key IS NOT NULL AND NOT NEW.destination_key <=> OLD.destination_key THEN
    SET NEW.copy_recorded = FALSE;
  END IF;
END;

CREATE OR REPLACE TRIGGER job_files_copy_recorded BEFORE UPDATE ON job_files FOR EACH ROW
FOLLOWS job_files_change
BEGIN
  IF NEW.copy_begun THEN
    SET NEW.copy_recorded = TRUE;
  END IF;
END;
