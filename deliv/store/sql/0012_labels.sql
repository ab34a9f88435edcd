-- Labels: jobs that were submitted for one campaign are found, counted and cancelled by one.
--
-- A label is its submitter's own. The release before neither writes nor reads it: its jobs have none,
-- and what it archives keeps its label by `jobs_archive_label`.

ALTER TABLE jobs
ADD COLUMN IF NOT EXISTS label VARCHAR(64) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL
  COMMENT 'the campaign, as the submitter named it',
ADD KEY IF NOT EXISTS labelled (submitter, label, job_id),
ADD KEY IF NOT EXISTS labelled_status (submitter, label, status, job_id),
ADD KEY IF NOT EXISTS labelled_product (submitter, label, product_id(480), job_id),
ADD KEY IF NOT EXISTS labelled_product_status (submitter, label, product_id(480), status, job_id);

ALTER TABLE jobs_archive
ADD COLUMN IF NOT EXISTS label VARCHAR(64) CHARACTER SET ascii COLLATE ascii_nopad_bin NULL
  COMMENT 'the campaign, as the submitter named it',
ADD KEY IF NOT EXISTS labelled (submitter, label, job_id),
ADD KEY IF NOT EXISTS labelled_status (submitter, label, status, job_id),
ADD KEY IF NOT EXISTS labelled_product (submitter, label, product_id(480), job_id),
ADD KEY IF NOT EXISTS labelled_product_status (submitter, label, product_id(480), status, job_id);

-- How many jobs of each status a label has, archived ones too, until they are forgotten. As with
-- `submitter_jobs` the columns are signed, and `deliv check` compares them with the jobs. A row is
-- locked after that of its submitter.
CREATE TABLE IF NOT EXISTS label_jobs (
  submitter VARCHAR(1000) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL
    COMMENT 'DN in the one-line form of the grid',
  label VARCHAR(64) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL,
  submitted BIGINT NOT NULL DEFAULT 0,
  staging BIGINT NOT NULL DEFAULT 0,
  transferring BIGINT NOT NULL DEFAULT 0,
  error BIGINT NOT NULL DEFAULT 0,
  success BIGINT NOT NULL DEFAULT 0,
  cancelled BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (submitter, label)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE OR REPLACE TRIGGER jobs_label_keep BEFORE UPDATE ON jobs FOR EACH ROW
BEGIN
  IF NOT NEW.label <=> OLD.label THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the label of a job will never change';
  END IF;
END;

CREATE OR REPLACE TRIGGER jobs_label_insert AFTER INSERT ON jobs FOR EACH ROW
  FOLLOWS jobs_count_insert
BEGIN
  IF NEW.label IS NOT NULL THEN
    INSERT INTO label_jobs (submitter, label, submitted) VALUES (NEW.submitter, NEW.label, 1)
      ON DUPLICATE KEY UPDATE submitted = submitted + 1;
  END IF;
END;

CREATE OR REPLACE TRIGGER jobs_label_update AFTER UPDATE ON jobs FOR EACH ROW
  FOLLOWS jobs_count_update
BEGIN
  IF NEW.label IS NOT NULL AND NEW.status <> OLD.status THEN
    UPDATE label_jobs SET
      submitted = submitted + (NEW.status = 'SUBMITTED') - (OLD.status = 'SUBMITTED'),
      staging = staging + (NEW.status = 'STAGING') - (OLD.status = 'STAGING'),
      transferring = transferring + (NEW.status = 'TRANSFERRING') - (OLD.status = 'TRANSFERRING'),
      error = error + (NEW.status = 'ERROR') - (OLD.status = 'ERROR'),
      success = success + (NEW.status = 'SUCCESS') - (OLD.status = 'SUCCESS'),
      cancelled = cancelled + (NEW.status = 'CANCELLED') - (OLD.status = 'CANCELLED')
      WHERE submitter = NEW.submitter AND label = NEW.label;
  END IF;
END;

CREATE OR REPLACE TRIGGER jobs_archive_label BEFORE INSERT ON jobs_archive FOR EACH ROW
BEGIN
  DECLARE original VARCHAR(64) CHARACTER SET ascii COLLATE ascii_nopad_bin
    DEFAULT (SELECT label FROM jobs WHERE job_id = NEW.job_id);
  IF NEW.label IS NULL THEN
    SET NEW.label = original;
  ELSEIF NOT NEW.label <=> original THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the archive takes ended jobs alone, as they are';
  END IF;
END;

CREATE OR REPLACE TRIGGER jobs_archive_label_forget AFTER DELETE ON jobs_archive FOR EACH ROW
BEGIN
  IF OLD.label IS NOT NULL THEN
    UPDATE label_jobs SET
      error = error - (OLD.status = 'ERROR'),
      success = success - (OLD.status = 'SUCCESS'),
      cancelled = cancelled - (OLD.status = 'CANCELLED')
      WHERE submitter = OLD.submitter AND label = OLD.label;
    DELETE FROM label_jobs
      WHERE submitter = OLD.submitter AND label = OLD.label
      AND submitted = 0 AND staging = 0 AND transferring = 0
      AND error = 0 AND success = 0 AND cancelled = 0;
  END IF;
END;
