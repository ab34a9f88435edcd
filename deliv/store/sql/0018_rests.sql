-- Rests: what is not a job's fault does not end it. It waits, alone or with all others of its place.
--
-- The release before knows no rests: it admits and hands over what these would hold, and a job that
-- went back to the queue is staged again by it as any other. It neither writes nor reads the columns.

ALTER TABLE jobs
ADD COLUMN IF NOT EXISTS excused INT UNSIGNED NOT NULL DEFAULT 0
  COMMENT 'attempts that failed for what is not its fault: they do not count as retries',
ADD COLUMN IF NOT EXISTS waiting_for VARCHAR(32) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL
  COMMENT 'what that is not its fault it waits for',
ADD COLUMN IF NOT EXISTS waiting_since TIMESTAMP(6) NULL DEFAULT NULL,
ADD COLUMN IF NOT EXISTS let_go TIMESTAMP(6) NULL DEFAULT NULL
  COMMENT 'since when it may go on although that place rests',
ADD COLUMN IF NOT EXISTS rest BINARY(16) NULL COMMENT 'the place of `rests` where it rests',
ADD KEY IF NOT EXISTS resting (rest, let_go, status, job_id);

ALTER TABLE jobs_archive
ADD COLUMN IF NOT EXISTS excused INT UNSIGNED NOT NULL DEFAULT 0
  COMMENT 'attempts that failed for what is not its fault: they do not count as retries',
ADD COLUMN IF NOT EXISTS waiting_for VARCHAR(32) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL
  COMMENT 'what that is not its fault it waits for',
ADD COLUMN IF NOT EXISTS waiting_since TIMESTAMP(6) NULL DEFAULT NULL,
ADD COLUMN IF NOT EXISTS let_go TIMESTAMP(6) NULL DEFAULT NULL
  COMMENT 'since when it may go on although that place rests',
ADD COLUMN IF NOT EXISTS rest BINARY(16) NULL COMMENT 'the place of `rests` where it rests';

-- A place without `since` does not rest: its failures in a row are counted, or it has ended to rest
-- and the jobs that rested there are let go.
CREATE TABLE IF NOT EXISTS rests (
  place_key BINARY(16) NOT NULL COMMENT 'digest of what the place is: deliv/model/rest.py',
  cause VARCHAR(32) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL,
  place TEXT NOT NULL COMMENT 'HOST or HOST:PORT, a directory''s URL, or the id of a delegation',
  host VARCHAR(255) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL
    COMMENT 'of which no job is admitted meanwhile, where operators have it rest',
  reason TEXT NOT NULL,
  failures INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'in a row',
  failed TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'the last of them',
  proven BOOLEAN NOT NULL DEFAULT TRUE COMMENT 'something was delivered there before',
  since TIMESTAMP(6) NULL DEFAULT NULL,
  next_try TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'NULL: it ends by what it waits for',
  tries INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'that failed',
  allowance INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'jobs that may go on now',
  successes INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'of jobs that were let go, in a row',
  tried VARCHAR(36) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL DEFAULT ''
    COMMENT 'the job in flight that was let go last; empty: one of the queue was',
  begun_by VARCHAR(255) NULL COMMENT 'the operator who has it rest',
  PRIMARY KEY (place_key),
  KEY next_try (next_try)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- HOST or HOST:PORT. One that nothing was ever delivered to is more likely a typing error than out.
CREATE TABLE IF NOT EXISTS reached_servers (
  server VARCHAR(300) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL,
  PRIMARY KEY (server)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

INSERT IGNORE INTO reached_servers (server)
SELECT SUBSTRING_INDEX(SUBSTRING_INDEX(destination_path, '/', 3), '/', -1)
FROM jobs WHERE status = 'SUCCESS'
UNION SELECT SUBSTRING_INDEX(SUBSTRING_INDEX(destination_path, '/', 3), '/', -1)
FROM jobs_archive WHERE status = 'SUCCESS';

-- How fast a user's jobs are done since they delegated, so that a campaign's end can be foreseen.
ALTER TABLE delegations
ADD COLUMN IF NOT EXISTS delivered_before BIGINT NULL COMMENT 'jobs, when the proxy was taken in',
ADD COLUMN IF NOT EXISTS accepted TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'when that was';

-- As before, but that a job which nothing is staged for any more goes back to the queue.
CREATE OR REPLACE TRIGGER jobs_change BEFORE UPDATE ON jobs FOR EACH ROW PRECEDES jobs_ended
BEGIN
  DECLARE begun BOOLEAN DEFAULT NEW.status <> OLD.status OR NEW.attempt <> OLD.attempt;
  IF NEW.job_id <> OLD.job_id OR NEW.submitter <> OLD.submitter
      OR NEW.product_id <> OLD.product_id OR NEW.destination_path <> OLD.destination_path THEN
    SIGNAL SQLSTATE '45000'
      SET MESSAGE_TEXT = 'job_id, submitter, product_id and destination_path never change';
  END IF;
  IF begun AND OLD.status IN ('SUCCESS', 'ERROR', 'CANCELLED') THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a job never leaves a final state';
  END IF;
  SET NEW.time_submitted = OLD.time_submitted;
  IF begun THEN
    CASE NEW.status
      WHEN 'SUBMITTED' THEN
        IF OLD.status <> 'STAGING' THEN
          SIGNAL SQLSTATE '45000'
            SET MESSAGE_TEXT = 'a job goes back to SUBMITTED from STAGING alone';
        END IF;
        SET NEW.time_staging = NULL, NEW.time_staged = NULL, NEW.time_transferring = NULL;
      WHEN 'STAGING' THEN
        SET NEW.time_staging = NOW(6), NEW.time_staged = NULL, NEW.time_transferring = NULL;
      WHEN 'TRANSFERRING' THEN
        SET NEW.time_transferring = NOW(6);
      WHEN 'SUCCESS' THEN
        SET NEW.time_success = NOW(6), NEW.destination_key = NULL;
      WHEN 'ERROR' THEN
        SET NEW.time_error = NOW(6), NEW.destination_key = NULL;
      WHEN 'CANCELLED' THEN
        SET NEW.time_cancelled = NOW(6), NEW.destination_key = NULL;
      ELSE
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'there is no such state';
    END CASE;
  END IF;
END;

CREATE OR REPLACE TRIGGER jobs_ended_rest BEFORE UPDATE ON jobs FOR EACH ROW FOLLOWS jobs_ended
BEGIN
  IF NEW.status IN ('SUCCESS', 'ERROR', 'CANCELLED') THEN
    IF NEW.status <> OLD.status THEN
      SET NEW.rest = NULL, NEW.let_go = NULL, NEW.waiting_for = NULL, NEW.waiting_since = NULL;
    ELSEIF NOT (NEW.excused <=> OLD.excused AND NEW.waiting_for <=> OLD.waiting_for
        AND NEW.waiting_since <=> OLD.waiting_since AND NEW.rest <=> OLD.rest
        AND NEW.let_go <=> OLD.let_go) THEN
      SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a job that has ended keeps its values';
    END IF;
  END IF;
END;

CREATE OR REPLACE TRIGGER jobs_reached AFTER UPDATE ON jobs FOR EACH ROW
BEGIN
  DECLARE reached VARCHAR(300) CHARACTER SET ascii COLLATE ascii_nopad_bin DEFAULT
    SUBSTRING_INDEX(SUBSTRING_INDEX(NEW.destination_path, '/', 3), '/', -1);
  IF NEW.status = 'SUCCESS' AND OLD.status <> 'SUCCESS'
      AND NOT EXISTS (SELECT 1 FROM reached_servers WHERE server = reached) THEN
    INSERT IGNORE INTO reached_servers (server) VALUES (reached);
  END IF;
END;
