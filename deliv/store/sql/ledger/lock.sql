SELECT GET_LOCK(CONCAT('deliv.migrate.', MD5(DATABASE())), %s) AS held
