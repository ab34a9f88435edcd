CREATE TABLE IF NOT EXISTS schema_migrations (
  number INT UNSIGNED NOT NULL,
  name VARCHAR(255) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL,
  checksum CHAR(64) CHARACTER SET ascii COLLATE ascii_nopad_bin NOT NULL
    COMMENT 'hexadecimal SHA-256 of the file',
  applied TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (number)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin
