#!lua flags=allow-oom
-- A write that means nothing, so that WAIT after it speaks of all that was written before. Also when Redis is
-- full: writers need it to make room.
--
-- KEYS: 1 prefix
-- ARGV: 1 id of the batch that is about to be inserted

redis.call('HSET', KEYS[1] .. 'counts', 'confirmed', ARGV[1])
return 1
