-- Credentials that users delegate to deliv, and under whose identity each job is copied.
--
-- Private keys are encrypted (deliv/identity/vault.py); what has expired is removed.

CREATE TABLE IF NOT EXISTS delegations (
  delegation_id VARCHAR(32) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL
    COMMENT 'hexadecimal, made from the DN',
  dn VARCHAR(1000) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL
    COMMENT 'of the user, in the one-line form of the grid',
  request TEXT NULL COMMENT 'PEM, the certificate request that waits for its proxy',
  request_key BLOB NULL COMMENT 'its private key, encrypted',
  requested TIMESTAMP(6) NULL DEFAULT NULL,
  proxy TEXT NULL COMMENT 'PEM, the delegated proxy and its chain',
  proxy_key BLOB NULL COMMENT 'its private key, encrypted',
  expires DATETIME(6) NULL DEFAULT NULL COMMENT 'UTC; the earliest end in the chain',
  told TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'when the user was told that it expires soon',
  version BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'grows with every new proxy',
  PRIMARY KEY (delegation_id),
  KEY expires (expires),
  KEY requested (requested)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

ALTER TABLE jobs
ADD COLUMN IF NOT EXISTS copied_as ENUM('service', 'user')
  CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL DEFAULT 'service'
COMMENT 'under whose identity FTS copies';

ALTER TABLE jobs_archive
ADD COLUMN IF NOT EXISTS copied_as ENUM('service', 'user')
  CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL DEFAULT 'service'
COMMENT 'under whose identity FTS copies';
