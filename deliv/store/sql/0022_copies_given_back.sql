-- A copy that a job gives back while its destination rests is a good one: others may go on joining its
-- staging, as long as any job needs it. Only an attempt that counts could not use its copy.

CREATE OR REPLACE TRIGGER jobs_staging_left AFTER UPDATE ON jobs FOR EACH ROW
PRECEDES jobs_count_update
BEGIN
  IF OLD.staging_id IS NOT NULL AND NOT NEW.staging_id <=> OLD.staging_id THEN
    -- Whether a job needs it is looked at now; none joins one whose copy an attempt could not use.
    UPDATE stagings
      SET open_key = IF(NEW.attempt = OLD.attempt OR NEW.excused > OLD.excused, open_key, NULL),
        due_at = NOW(6), version = version + 1
      WHERE staging_id = OLD.staging_id AND state <> 'RELEASED';
  ELSEIF OLD.time_released IS NULL AND NEW.time_released IS NOT NULL AND NOT EXISTS (
      SELECT 1 FROM jobs WHERE staging_id = NEW.staging_id AND time_released IS NULL
      AND status IN ('SUBMITTED', 'STAGING', 'TRANSFERRING', 'ERROR', 'SUCCESS', 'CANCELLED')) THEN
    -- By the release before: this one has closed it by now.
    UPDATE stagings SET open_key = NULL, due_at = NOW(6), version = version + 1
      WHERE staging_id = NEW.staging_id AND state NOT IN ('RELEASING', 'RELEASED');
  END IF;
END;
