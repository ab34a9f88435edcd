-- The database's own clock: how far it was seen, and where it has stepped back.

CREATE TABLE IF NOT EXISTS clock (
  id TINYINT UNSIGNED NOT NULL,
  seen TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) COMMENT 'noted every few seconds',
  PRIMARY KEY (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS clock_steps (
  step_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  was TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) COMMENT 'the last time noted before it',
  became TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) COMMENT 'the first one after it',
  PRIMARY KEY (step_id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
