-- Throws a dead letter away.
--
-- KEYS: 1 prefix
-- ARGV: 1 id, 2 signal, 3 rows, 4 bytes
-- Answers 1, or 0 when it is no letter any more: then nothing changes. HDEL comes first because it is never
-- refused for want of memory; after a first write the others aren't either.

local prefix, id, signal, rows, bytes = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local counts = prefix .. 'counts'

if redis.call('HDEL', prefix .. 'dead', id) == 0 then return 0 end
redis.call('ZREM', prefix .. 'letters', id)
redis.call('UNLINK', prefix .. 'batch:' .. id, prefix .. 'parts:' .. id)
redis.call('HDEL', prefix .. 'meta', id)
redis.call('HINCRBY', counts, 'dead:' .. signal, 0 - rows)
redis.call('HINCRBY', counts, 'dropped:' .. signal, rows)
redis.call('HINCRBY', counts, 'deadBytes', 0 - bytes)
return 1
