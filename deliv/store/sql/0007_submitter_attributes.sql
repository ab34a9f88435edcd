-- What the policy decided on when a job was accepted: it is asked again before the job goes on.

ALTER TABLE jobs
ADD COLUMN IF NOT EXISTS submitter_fqans TEXT CHARACTER SET ascii COLLATE ascii_nopad_bin NULL
  COMMENT 'VOMS attributes of the submitter then, one per line; NULL: not recorded',
ADD COLUMN IF NOT EXISTS submitter_limited BOOLEAN NOT NULL DEFAULT FALSE COMMENT 'by a limited proxy';

ALTER TABLE jobs_archive
ADD COLUMN IF NOT EXISTS submitter_fqans TEXT CHARACTER SET ascii COLLATE ascii_nopad_bin NULL
  COMMENT 'VOMS attributes of the submitter then, one per line; NULL: not recorded',
ADD COLUMN IF NOT EXISTS submitter_limited BOOLEAN NOT NULL DEFAULT FALSE COMMENT 'by a limited proxy';
