-- Stagings: a product is brought to disk once for all jobs that want it at that time.
--
-- The first job of a product opens one when it needs the stager; the next ones join it when they are
-- admitted, while it can be joined (`open_key`). A job is of it until its end; another attempt at staging
-- begins without one. It is given back when the last of its jobs needs it no more.
--
-- What is still to be done for it has a due time, as with jobs. Row locks: a job's, then its staging's,
-- then those of counts.
--
-- The release before stages for each job alone: its jobs have no `staging_id`, and the stager knows them
-- by their own ids. The job that opened a staging has the digest of the code in `stager_callback`, too,
-- so that it can take the report.

CREATE TABLE IF NOT EXISTS stagings (
  staging_id VARCHAR(36) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL
    COMMENT 'job_id to the stager: that of the job which opened it, or one made from it',
  product_id TEXT NOT NULL,
  open_key BINARY(32) NULL COMMENT 'SHA-256 of product_id while other jobs may join it',
  state ENUM('ASKING', 'WAITING', 'STAGED', 'FAILED', 'RELEASING', 'RELEASED')
    CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL DEFAULT 'ASKING',
  version BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'grows with every change',
  due_at TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'when it next needs attention; NULL at rest',
  code VARCHAR(32) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL
    COMMENT 'hexadecimal BLAKE2b-128 digest of the one-time code; NULL when none is expected',
  begun TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  accepted TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'when the stager took the request',
  staged TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'when it was reported',
  closed TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'when no job needed it any more',
  released TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'when the stager confirmed the release',
  status TEXT NULL COMMENT 'what the stager said last',
  error_class VARCHAR(32) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL,
  reason TEXT NULL COMMENT 'why it failed',
  hostname TEXT NULL,
  path TEXT NULL,
  size BIGINT UNSIGNED NULL COMMENT 'bytes of all its files; NULL: not reported',
  checksum VARCHAR(255) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL
    COMMENT 'ALGORITHM:hexadecimal',
  report BINARY(16) NULL COMMENT 'the report whose files are in staging_files; NULL: it is one file',
  report_digest BINARY(32) NULL COMMENT 'SHA-256 of that report with its code',
  files_total INT UNSIGNED NULL,
  longest_name TEXT NULL COMMENT 'that of the file with the longest URL',
  PRIMARY KEY (staging_id),
  UNIQUE KEY open_key (open_key),
  KEY due (due_at) COMMENT 'what needs attention',
  KEY released (released) COMMENT 'what can be forgotten'
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- Each of its jobs gets rows in `job_files` from these. They go when the copy is given back.
CREATE TABLE IF NOT EXISTS staging_files (
  staging_id VARCHAR(36) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL,
  report BINARY(16) NOT NULL,
  number INT UNSIGNED NOT NULL COMMENT 'its place in the report, counted from 1',
  name TEXT NOT NULL COMMENT 'relative to the staged directory',
  size BIGINT UNSIGNED NULL COMMENT 'bytes',
  checksum VARCHAR(255) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL
    COMMENT 'ALGORITHM:hexadecimal',
  PRIMARY KEY (staging_id, report, number)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

ALTER TABLE jobs
ADD KEY IF NOT EXISTS staging (staging_id, status, time_released) COMMENT 'who needs a staging';

-- The space that stagings take in front of the tapes, beside that of the jobs which are alone in
-- jobs_under_way. A few rows, which are always there: those who change different stagings seldom wait
-- for each other. `deliv check` compares them with the stagings, and counts again.
CREATE TABLE IF NOT EXISTS stagings_under_way (
  part TINYINT UNSIGNED NOT NULL COMMENT 'CRC32(staging_id) modulo 16 of those that it counts',
  copies BIGINT NOT NULL DEFAULT 0 COMMENT 'stagings that are not RELEASED',
  sized BIGINT NOT NULL DEFAULT 0 COMMENT 'those of them whose size was reported',
  bytes BIGINT NOT NULL DEFAULT 0 COMMENT 'what these have',
  PRIMARY KEY (part)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

INSERT IGNORE INTO stagings_under_way (part)
VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15);

CREATE OR REPLACE TRIGGER stagings_count_begun AFTER INSERT ON stagings FOR EACH ROW
BEGIN
  IF NEW.state <> 'RELEASED' THEN
    UPDATE stagings_under_way
      SET copies = copies + 1, sized = sized + (NEW.size IS NOT NULL),
        bytes = bytes + CAST(COALESCE(NEW.size, 0) AS SIGNED)
      WHERE part = CRC32(NEW.staging_id) % 16;
  END IF;
END;

-- None that is not RELEASED is removed.
CREATE OR REPLACE TRIGGER stagings_count AFTER UPDATE ON stagings FOR EACH ROW
BEGIN
  DECLARE was_there BOOLEAN DEFAULT OLD.state <> 'RELEASED';
  DECLARE is_there BOOLEAN DEFAULT NEW.state <> 'RELEASED';
  IF was_there <> is_there OR NOT NEW.size <=> OLD.size THEN
    UPDATE stagings_under_way
      SET copies = copies + is_there - was_there,
        sized = sized + (is_there AND NEW.size IS NOT NULL) - (was_there AND OLD.size IS NOT NULL),
        bytes = bytes + IF(is_there, CAST(COALESCE(NEW.size, 0) AS SIGNED), 0)
          - IF(was_there, CAST(COALESCE(OLD.size, 0) AS SIGNED), 0)
      WHERE part = CRC32(NEW.staging_id) % 16;
  END IF;
END;

CREATE OR REPLACE TRIGGER stagings_change BEFORE UPDATE ON stagings FOR EACH ROW
BEGIN
  IF NOT (NEW.staging_id <=> OLD.staging_id AND NEW.product_id <=> OLD.product_id
      AND NEW.begun <=> OLD.begun) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a staging stays that of its product';
  END IF;
  IF NEW.open_key IS NOT NULL AND NOT NEW.open_key <=> OLD.open_key THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a staging that is closed is joined by no job';
  END IF;
  IF NEW.state <> OLD.state AND NOT (
      (OLD.state = 'ASKING' AND NEW.state IN ('WAITING', 'STAGED', 'FAILED', 'RELEASING'))
      OR (OLD.state = 'WAITING' AND NEW.state IN ('ASKING', 'STAGED', 'FAILED', 'RELEASING'))
      OR (OLD.state IN ('STAGED', 'FAILED') AND NEW.state = 'RELEASING')
      OR (OLD.state = 'RELEASING' AND NEW.state = 'RELEASED')
      OR (OLD.state = 'RELEASED' AND NEW.state = 'RELEASING')) THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a staging can not go on like this';
  END IF;
  IF NEW.state NOT IN ('ASKING', 'WAITING') THEN
    SET NEW.code = NULL;
  END IF;
  IF NEW.state IN ('FAILED', 'RELEASING', 'RELEASED') THEN
    SET NEW.open_key = NULL;
  END IF;
  IF NEW.state = 'RELEASING' AND OLD.state <> 'RELEASING' THEN
    SET NEW.closed = NOW(6), NEW.released = NULL;
  END IF;
END;

CREATE OR REPLACE TRIGGER stagings_leave BEFORE DELETE ON stagings FOR EACH ROW
BEGIN
  IF OLD.state <> 'RELEASED' THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a staging is removed only when it was given back';
  END IF;
END;

CREATE OR REPLACE TRIGGER jobs_staging BEFORE UPDATE ON jobs FOR EACH ROW FOLLOWS jobs_ended
BEGIN
  IF OLD.status IN ('SUCCESS', 'ERROR', 'CANCELLED') AND NOT NEW.staging_id <=> OLD.staging_id THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a job that has ended keeps its values';
  END IF;
  -- The copy of the attempt before can't be used, and who waits for its turn needs none. And who has
  -- a code of its own, by the release before, is staged alone.
  IF NEW.status = 'SUBMITTED' OR (NEW.status = 'STAGING' AND NEW.attempt <> OLD.attempt)
      OR (NEW.stager_callback IS NOT NULL AND NOT NEW.stager_callback <=> OLD.stager_callback
        AND NEW.staging_id <> NEW.job_id) THEN
    SET NEW.staging_id = NULL;
  END IF;
END;

-- The staging's row is locked before those of counts.
CREATE OR REPLACE TRIGGER jobs_staging_left AFTER UPDATE ON jobs FOR EACH ROW
PRECEDES jobs_count_update
BEGIN
  IF OLD.staging_id IS NOT NULL AND NOT NEW.staging_id <=> OLD.staging_id THEN
    -- Whether a job needs it is looked at now; none joins one whose copy an attempt could not use.
    UPDATE stagings
      SET open_key = IF(NEW.attempt = OLD.attempt, open_key, NULL), due_at = NOW(6),
        version = version + 1
      WHERE staging_id = OLD.staging_id AND state <> 'RELEASED';
  ELSEIF OLD.time_released IS NULL AND NEW.time_released IS NOT NULL AND NOT EXISTS (
      SELECT 1 FROM jobs WHERE staging_id = NEW.staging_id AND time_released IS NULL
      AND status IN ('SUBMITTED', 'STAGING', 'TRANSFERRING', 'ERROR', 'SUCCESS', 'CANCELLED')) THEN
    -- By the release before: this one has closed it by now.
    UPDATE stagings SET open_key = NULL, due_at = NOW(6), version = version + 1
      WHERE staging_id = NEW.staging_id AND state NOT IN ('RELEASING', 'RELEASED');
  END IF;
END;

CREATE OR REPLACE TRIGGER jobs_archive_staging BEFORE INSERT ON jobs_archive FOR EACH ROW
BEGIN
  SET NEW.staging_id = (SELECT staging_id FROM jobs WHERE job_id = NEW.job_id);
END;
