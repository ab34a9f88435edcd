-- Two queues, two limits: what is under way with the archive and with FTS, counted by triggers.
--
-- An admission reads these counts, of which there is one for each submitter and destination host with
-- something under way, instead of the jobs, of which there are thousands. A row that counts nothing is
-- removed. The columns are signed: a count that has become wrong must not keep a job from going on.
-- `deliv check` compares them with the jobs, and counts again. A row is locked after the job's,
-- its staging's, and the counts of its submitter, its label, and of stagings.

CREATE TABLE IF NOT EXISTS jobs_under_way (
  submitter VARCHAR(1000) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL
    COMMENT 'DN in the one-line form of the grid',
  destination_host VARCHAR(255) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL,
  staging BIGINT NOT NULL DEFAULT 0 COMMENT 'being staged, or staged and not yet handed to FTS',
  asked BIGINT NOT NULL DEFAULT 0 COMMENT 'those of them that are not staged yet',
  at_fts BIGINT NOT NULL DEFAULT 0 COMMENT 'with FTS, or being handed over: they have a place there',
  held BIGINT NOT NULL DEFAULT 0
    COMMENT 'with a copy that the archive was asked for, and that the job has not left yet',
  alone BIGINT NOT NULL DEFAULT 0
    COMMENT 'those of them that are of no staging: each takes space of its own',
  sized BIGINT NOT NULL DEFAULT 0 COMMENT 'those that are alone and whose size was reported',
  bytes BIGINT NOT NULL DEFAULT 0 COMMENT 'what these have',
  PRIMARY KEY (submitter, destination_host)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- The jobs that are staged and wait for a place at FTS. The release before neither writes nor reads it:
-- it hands such a job over when it is due.
CREATE TABLE IF NOT EXISTS fts_queue (
  job_id VARCHAR(36) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL,
  submitter VARCHAR(1000) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL
    COMMENT 'DN in the one-line form of the grid',
  destination_host VARCHAR(255) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL,
  since TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (job_id),
  KEY next (submitter, destination_host, since, job_id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- Of thousands of jobs under way those that wait for their turn are found without the others.
ALTER TABLE jobs
ADD COLUMN IF NOT EXISTS staging_id VARCHAR(36) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL
  COMMENT 'the staging that it is of; NULL: none yet, or the release before stages it',
ADD KEY IF NOT EXISTS waiting_turn (status, turn_since);

ALTER TABLE jobs_archive
ADD COLUMN IF NOT EXISTS staging_id VARCHAR(36) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL
COMMENT 'the staging that it is of; NULL: none yet, or the release before stages it';

CREATE OR REPLACE TRIGGER jobs_under_way_count AFTER UPDATE ON jobs FOR EACH ROW
BEGIN
  -- Most changes of a job are none of these.
  IF NOT (NEW.status = OLD.status AND NEW.time_staging <=> OLD.time_staging
      AND NEW.time_staged <=> OLD.time_staged AND NEW.time_released <=> OLD.time_released
      AND NEW.product_size <=> OLD.product_size AND NEW.fts_endpoint <=> OLD.fts_endpoint
      AND NEW.turn_since <=> OLD.turn_since AND NEW.staging_id <=> OLD.staging_id) THEN
  BEGIN
    DECLARE was_staging BOOLEAN DEFAULT OLD.status = 'STAGING' AND OLD.time_released IS NULL;
    DECLARE is_staging BOOLEAN DEFAULT NEW.status = 'STAGING' AND NEW.time_released IS NULL;
    DECLARE was_at_fts BOOLEAN DEFAULT OLD.status IN ('STAGING', 'TRANSFERRING')
      AND (OLD.fts_endpoint IS NOT NULL OR OLD.turn_since IS NOT NULL);
    DECLARE is_at_fts BOOLEAN DEFAULT NEW.status IN ('STAGING', 'TRANSFERRING')
      AND (NEW.fts_endpoint IS NOT NULL OR NEW.turn_since IS NOT NULL);
    DECLARE was_held BOOLEAN DEFAULT OLD.time_staging IS NOT NULL AND OLD.time_released IS NULL;
    DECLARE is_held BOOLEAN DEFAULT NEW.time_staging IS NOT NULL AND NEW.time_released IS NULL;
    DECLARE was_alone BOOLEAN DEFAULT was_held AND OLD.staging_id IS NULL;
    DECLARE is_alone BOOLEAN DEFAULT is_held AND NEW.staging_id IS NULL;
    DECLARE more_staging BIGINT DEFAULT is_staging - was_staging;
    DECLARE more_asked BIGINT DEFAULT
      (is_staging AND NEW.time_staged IS NULL) - (was_staging AND OLD.time_staged IS NULL);
    DECLARE more_at_fts BIGINT DEFAULT is_at_fts - was_at_fts;
    DECLARE more_held BIGINT DEFAULT is_held - was_held;
    DECLARE more_alone BIGINT DEFAULT is_alone - was_alone;
    DECLARE more_sized BIGINT DEFAULT
      (is_alone AND NEW.product_size IS NOT NULL) - (was_alone AND OLD.product_size IS NOT NULL);
    DECLARE more_bytes BIGINT DEFAULT
      IF(is_alone, CAST(COALESCE(NEW.product_size, 0) AS SIGNED), 0)
      - IF(was_alone, CAST(COALESCE(OLD.product_size, 0) AS SIGNED), 0);
    IF more_staging <> 0 OR more_asked <> 0 OR more_at_fts <> 0 OR more_held <> 0
        OR more_alone <> 0 OR more_sized <> 0 OR more_bytes <> 0 THEN
      INSERT INTO jobs_under_way
        (submitter, destination_host, staging, asked, at_fts, held, alone, sized, bytes)
        VALUES (NEW.submitter, NEW.destination_host, more_staging, more_asked, more_at_fts, more_held,
          more_alone, more_sized, more_bytes)
        ON DUPLICATE KEY UPDATE staging = staging + more_staging, asked = asked + more_asked,
          at_fts = at_fts + more_at_fts, held = held + more_held, alone = alone + more_alone,
          sized = sized + more_sized, bytes = bytes + more_bytes;
      DELETE FROM jobs_under_way
        WHERE submitter = NEW.submitter AND destination_host = NEW.destination_host
        AND staging = 0 AND asked = 0 AND at_fts = 0 AND held = 0 AND alone = 0 AND sized = 0
        AND bytes = 0;
    END IF;
    -- It waits in the queue while it is staged and has no place.
    IF OLD.status IN ('STAGING', 'TRANSFERRING') AND OLD.time_staged IS NOT NULL AND NOT was_at_fts
        AND (is_at_fts OR NEW.time_staged IS NULL OR NEW.status NOT IN ('STAGING', 'TRANSFERRING')) THEN
      DELETE FROM fts_queue WHERE job_id = NEW.job_id;
    END IF;
  END;
  END IF;
END;

-- The jobs that are there already, while none changes.
LOCK TABLES jobs READ, jobs_under_way WRITE;

DELETE FROM jobs_under_way;

REPLACE INTO jobs_under_way
  (submitter, destination_host, staging, asked, at_fts, held, alone, sized, bytes)
SELECT submitter, destination_host,
  SUM(status = 'STAGING' AND time_released IS NULL),
  SUM(status = 'STAGING' AND time_released IS NULL AND time_staged IS NULL),
  SUM(status IN ('STAGING', 'TRANSFERRING')
    AND (fts_endpoint IS NOT NULL OR turn_since IS NOT NULL)),
  SUM(time_released IS NULL), SUM(time_released IS NULL AND staging_id IS NULL),
  SUM(time_released IS NULL AND staging_id IS NULL AND product_size IS NOT NULL),
  COALESCE(SUM(IF(time_released IS NULL AND staging_id IS NULL, product_size, NULL)), 0)
FROM jobs
WHERE time_staging IS NOT NULL AND (time_released IS NULL OR status IN ('STAGING', 'TRANSFERRING'))
GROUP BY submitter, destination_host;

UNLOCK TABLES;
