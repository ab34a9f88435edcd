-- Lists of jobs, the latest first: a job's id begins with the time of submission.

ALTER TABLE jobs
ADD KEY IF NOT EXISTS listed (submitter, job_id) COMMENT 'the jobs of one submitter',
ADD KEY IF NOT EXISTS requested (product_id(64), job_id) COMMENT 'who asked for a product',
ADD KEY IF NOT EXISTS standing (status, job_id) COMMENT 'the jobs of one status';

ALTER TABLE jobs_archive
ADD KEY IF NOT EXISTS listed (submitter, job_id) COMMENT 'the jobs of one submitter',
ADD KEY IF NOT EXISTS requested (product_id(64), job_id) COMMENT 'who asked for a product',
ADD KEY IF NOT EXISTS standing (status, job_id) COMMENT 'the jobs of one status';
