-- What holds on every connection: max_statement_time, innodb_lock_wait_timeout and
-- idle_transaction_timeout in seconds. The last ends a transaction whose process was frozen.
SET SESSION
  sql_mode = 'STRICT_ALL_TABLES,STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_DATE,NO_ZERO_IN_DATE,NO_ENGINE_SUBSTITUTION',
  time_zone = '+00:00',
  max_statement_time = %s,
  innodb_lock_wait_timeout = %s,
  idle_transaction_timeout = %s;
SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
