-- How many jobs of each status each submitter has in `jobs`, kept by triggers.
--
-- The sum over submitters is read instead of the jobs, whose number grows with history, and a quota
-- reads its submitter's row. Whoever changes a status locks that row after the job's: submissions of
-- one submitter count one after another, those of two do not meet.
--
-- The columns are signed: a count that has become wrong must not keep a job from going on.
-- `deliv check` compares them with the jobs, and counts again.

CREATE TABLE IF NOT EXISTS submitter_jobs (
  submitter VARCHAR(1000) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL
    COMMENT 'DN in the one-line form of the grid',
  submitted BIGINT NOT NULL DEFAULT 0,
  staging BIGINT NOT NULL DEFAULT 0,
  transferring BIGINT NOT NULL DEFAULT 0,
  error BIGINT NOT NULL DEFAULT 0,
  success BIGINT NOT NULL DEFAULT 0,
  cancelled BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (submitter)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE OR REPLACE TRIGGER jobs_count_insert AFTER INSERT ON jobs FOR EACH ROW
BEGIN
  INSERT INTO submitter_jobs (submitter, submitted) VALUES (NEW.submitter, 1)
    ON DUPLICATE KEY UPDATE submitted = submitted + 1;
END;

CREATE OR REPLACE TRIGGER jobs_count_update AFTER UPDATE ON jobs FOR EACH ROW
BEGIN
  IF NEW.status <> OLD.status THEN
    UPDATE submitter_jobs SET
      submitted = submitted + (NEW.status = 'SUBMITTED') - (OLD.status = 'SUBMITTED'),
      staging = staging + (NEW.status = 'STAGING') - (OLD.status = 'STAGING'),
      transferring = transferring + (NEW.status = 'TRANSFERRING') - (OLD.status = 'TRANSFERRING'),
      error = error + (NEW.status = 'ERROR') - (OLD.status = 'ERROR'),
      success = success + (NEW.status = 'SUCCESS') - (OLD.status = 'SUCCESS'),
      cancelled = cancelled + (NEW.status = 'CANCELLED') - (OLD.status = 'CANCELLED')
      WHERE submitter = NEW.submitter;
  END IF;
END;

CREATE OR REPLACE TRIGGER jobs_count_delete AFTER DELETE ON jobs FOR EACH ROW
BEGIN
  UPDATE submitter_jobs SET
    submitted = submitted - (OLD.status = 'SUBMITTED'),
    staging = staging - (OLD.status = 'STAGING'),
    transferring = transferring - (OLD.status = 'TRANSFERRING'),
    error = error - (OLD.status = 'ERROR'),
    success = success - (OLD.status = 'SUCCESS'),
    cancelled = cancelled - (OLD.status = 'CANCELLED')
    WHERE submitter = OLD.submitter;
END;

-- The jobs that are there already, while none changes.
LOCK TABLES jobs READ, submitter_jobs WRITE;

REPLACE INTO submitter_jobs
  (submitter, submitted, staging, transferring, error, success, cancelled)
SELECT submitter, SUM(status = 'SUBMITTED'), SUM(status = 'STAGING'),
  SUM(status = 'TRANSFERRING'), SUM(status = 'ERROR'), SUM(status = 'SUCCESS'),
  SUM(status = 'CANCELLED')
FROM jobs GROUP BY submitter;

UNLOCK TABLES;
