-- Makes a sealed batch a dead letter: its bytes and its description stay, it is not written any more.
--
-- KEYS: 1 prefix
-- ARGV: 1 id, 2 signal, 3 rows, 4 bytes, 5 why, JSON
-- Answers 1, or 0 when the batch was removed or buried before: then nothing changes. ZREM comes first because
-- it is never refused for want of memory; after a first write the others aren't either.

local prefix, id, signal, rows, bytes = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local counts = prefix .. 'counts'

if redis.call('ZREM', prefix .. 'sealed', id) == 0 then return 0 end
redis.call('HSET', prefix .. 'dead', id, ARGV[5])
redis.call('HINCRBY', counts, 'waiting:' .. signal, 0 - rows)
redis.call('HINCRBY', counts, 'dead:' .. signal, rows)
redis.call('HINCRBY', counts, 'bytes', 0 - bytes)
redis.call('HINCRBY', counts, 'deadBytes', bytes)
return 1
