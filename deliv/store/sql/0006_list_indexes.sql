-- With `listed`, `requested` and `standing` there is an index for each combination of filters that
-- GET /transfers offers (deliv/store/listing.py): a page reads about as many rows as it shows.
--
-- An index is at most 3072 bytes long: 500 characters of the product's id fit beside a submitter.

ALTER TABLE jobs
ADD KEY IF NOT EXISTS submitter_status (submitter, status, job_id),
ADD KEY IF NOT EXISTS submitter_product (submitter, product_id(500), job_id),
ADD KEY IF NOT EXISTS submitter_product_status (submitter, product_id(500), status, job_id),
ADD KEY IF NOT EXISTS product_status (product_id(500), status, job_id);

ALTER TABLE jobs_archive
ADD KEY IF NOT EXISTS submitter_status (submitter, status, job_id),
ADD KEY IF NOT EXISTS submitter_product (submitter, product_id(500), job_id),
ADD KEY IF NOT EXISTS submitter_product_status (submitter, product_id(500), status, job_id),
ADD KEY IF NOT EXISTS product_status (product_id(500), status, job_id);
