SELECT @@global.read_only AS read_only
