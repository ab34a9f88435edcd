-- A turn to hand files to FTS is given once.
--
-- Who attends to the job then may take longer than the next look at whose turn it is, and must not be
-- interrupted by it. The job waits again, without its turn, when others were faster. The release before
-- gives turns again and again, which costs no more than time.

ALTER TABLE jobs
ADD COLUMN IF NOT EXISTS turn_given BOOLEAN NOT NULL DEFAULT FALSE
COMMENT 'while it waits for its turn: it was given, and is taken';

ALTER TABLE jobs_archive
ADD COLUMN IF NOT EXISTS turn_given BOOLEAN NOT NULL DEFAULT FALSE
COMMENT 'while it waits for its turn: it was given, and is taken';

CREATE OR REPLACE TRIGGER jobs_turn_given BEFORE UPDATE ON jobs FOR EACH ROW FOLLOWS jobs_copy_recorded
BEGIN
  IF OLD.status IN ('SUCCESS', 'ERROR', 'CANCELLED') THEN
    IF NOT NEW.turn_given <=> OLD.turn_given THEN
      SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a job that has ended keeps its values';
    END IF;
  ELSEIF NEW.turn_since IS NULL THEN
    SET NEW.turn_given = FALSE;
  END IF;
END;
