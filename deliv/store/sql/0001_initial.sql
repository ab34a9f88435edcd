-- deliv's tables and the promises they keep by themselves.
--
-- A statement ends with a semicolon at the end of an unindented line. Every statement can be run
-- again: MariaDB commits each change of the schema by itself, so a migration that was cut short is
-- repeated from its start.
--
-- All times are UTC. "nopad" collations compare exactly: without them 'x' equals 'x '.

CREATE TABLE IF NOT EXISTS jobs (
  -- The prototype's columns.
  job_id VARCHAR(36) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL
    COMMENT 'UUID of version 7: sorts by the time of submission',
  product_id TEXT NOT NULL,
  status ENUM('SUBMITTED', 'STAGING', 'TRANSFERRING', 'ERROR', 'SUCCESS', 'CANCELLED')
    CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL,
  detailed_status TEXT NULL COMMENT 'a sentence for the submitter',
  destination_path TEXT NOT NULL COMMENT 'gsiftp URL of a directory',
  submitter VARCHAR(1000) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL
    COMMENT 'DN in the one-line form of the grid',
  fts_jobid VARCHAR(255) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL,
  fts_details TEXT NULL COMMENT 'what FTS said last',
  stager_callback VARCHAR(32) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL
    COMMENT 'hexadecimal BLAKE2b-128 digest of the one-time code; NULL when none is expected',
  stager_path TEXT NULL,
  stager_hostname TEXT NULL,
  stager_status TEXT NULL,
  time_submitted TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  time_staging TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'start of the latest staging',
  time_transferring TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'start of the latest transfer',
  time_error TIMESTAMP(6) NULL DEFAULT NULL,
  time_success TIMESTAMP(6) NULL DEFAULT NULL,
  -- Ours, shown to callers.
  time_staged TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'end of the latest staging',
  time_cancelled TIMESTAMP(6) NULL DEFAULT NULL,
  error_class VARCHAR(32) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL,
  attempt INT UNSIGNED NOT NULL DEFAULT 1 COMMENT 'counts from 1',
  product_size BIGINT UNSIGNED NULL COMMENT 'bytes',
  checksum VARCHAR(255) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL
    COMMENT 'ALGORITHM:hexadecimal',
  -- Ours, internal.
  version BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'grows with every change',
  due_at TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'when the job next needs attention; NULL at rest',
  destination_host VARCHAR(255) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL,
  destination_key BINARY(32) NULL
    COMMENT 'SHA-256 of the URL of the destination file while this job may write it',
  idempotency_key VARCHAR(255) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL,
  idempotency_digest BINARY(32) NULL COMMENT 'SHA-256 of submitter, NUL, idempotency_key',
  request_digest BINARY(32) NULL COMMENT 'SHA-256 of what was asked for',
  stager_accepted TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'when the stager took the request',
  time_released TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'when the stager confirmed the release',
  fts_endpoint VARCHAR(255) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL,
  fts_posted TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'when FTS took the transfer',
  fts_misses INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'times in a row FTS did not know it',
  partial BOOLEAN NOT NULL DEFAULT FALSE
    COMMENT 'an attempt may have left (part of) a file at the destination',
  cancel_requested TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'when its owner wanted it stopped at FTS',
  PRIMARY KEY (job_id),
  UNIQUE KEY destination_key (destination_key),
  UNIQUE KEY idempotency_digest (idempotency_digest),
  KEY turn (status, submitter, destination_host, due_at) COMMENT 'who is served next',
  KEY due (status, due_at) COMMENT 'what needs attention',
  KEY polled (status, fts_endpoint) COMMENT 'what an FTS has in hand',
  KEY fts_jobid (fts_jobid)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS job_events (
  event_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  job_id VARCHAR(36) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL,
  submitter VARCHAR(1000) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL,
  status ENUM('SUBMITTED', 'STAGING', 'TRANSFERRING', 'ERROR', 'SUCCESS', 'CANCELLED')
    CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL,
  attempt INT UNSIGNED NOT NULL,
  staged BOOLEAN NOT NULL COMMENT 'a staged copy was there',
  detailed_status TEXT NULL,
  error_class VARCHAR(32) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL,
  time TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (event_id),
  KEY history (job_id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS outbox (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  routing VARCHAR(64) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL
    COMMENT 'stage, transfer or event',
  job_id VARCHAR(36) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL,
  payload VARCHAR(4000) NULL COMMENT 'JSON object',
  created TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  held_until TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'a relay has it in hand until then',
  PRIMARY KEY (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS leases (
  name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL,
  owner VARCHAR(255) NOT NULL,
  fence BIGINT UNSIGNED NOT NULL COMMENT 'grows whenever the lease is taken anew',
  expires TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (name)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- The row that admissions lock, so that two never count the same free slot.
INSERT IGNORE INTO leases (name, owner, fence) VALUES ('admission', '', 0);

CREATE OR REPLACE TRIGGER jobs_begin BEFORE INSERT ON jobs FOR EACH ROW
BEGIN
  IF NEW.status <> 'SUBMITTED' THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a job begins as SUBMITTED';
  END IF;
  SET NEW.time_submitted = NOW(6);
END;

CREATE OR REPLACE TRIGGER jobs_change BEFORE UPDATE ON jobs FOR EACH ROW
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
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a job does not go back to SUBMITTED';
    END CASE;
  END IF;
END;

CREATE OR REPLACE TRIGGER jobs_begun AFTER INSERT ON jobs FOR EACH ROW
BEGIN
  INSERT INTO job_events (job_id, submitter, status, attempt, staged, detailed_status, time)
    VALUES (NEW.job_id, NEW.submitter, NEW.status, NEW.attempt, FALSE, NEW.detailed_status, NOW(6));
END;

CREATE OR REPLACE TRIGGER jobs_changed AFTER UPDATE ON jobs FOR EACH ROW
BEGIN
  IF NEW.status <> OLD.status OR NEW.attempt <> OLD.attempt
      OR (OLD.time_staged IS NULL AND NEW.time_staged IS NOT NULL) THEN
    INSERT INTO job_events
      (job_id, submitter, status, attempt, staged, detailed_status, error_class, time)
      VALUES (NEW.job_id, NEW.submitter, NEW.status, NEW.attempt, NEW.time_staged IS NOT NULL,
        NEW.detailed_status, NEW.error_class, NOW(6));
  END IF;
END;
