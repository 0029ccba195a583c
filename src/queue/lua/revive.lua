-- Makes a dead letter a sealed batch again, under its own id: ClickHouse stores it once however often that
-- happens. It counts as sealed now, so that the sweep of any writer finds it; its description stays.
--
-- KEYS: 1 prefix
-- ARGV: 1 id, 2 signal, 3 rows, 4 bytes
-- Answers 1, or 0 when it is no letter any more: then nothing changes. HDEL comes first because it is never
-- refused for want of memory; after a first write the others aren't either.

local prefix, id, signal, rows, bytes = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local counts, time = prefix .. 'counts', redis.call('TIME')

local why = redis.call('HGET', prefix .. 'dead', id)
if not why then return 0 end
redis.call('HDEL', prefix .. 'dead', id)
redis.call('ZREM', prefix .. 'letters', id)
-- What it was, for when it becomes a letter again.
redis.call('HSET', prefix .. 'parts:' .. id, 'letter', why)
redis.call('ZADD', prefix .. 'sealed', time[1] * 1000 + math.floor(time[2] / 1000), id)
redis.call('HINCRBY', counts, 'dead:' .. signal, 0 - rows)
redis.call('HINCRBY', counts, 'waiting:' .. signal, rows)
redis.call('HINCRBY', counts, 'deadBytes', 0 - bytes)
redis.call('HINCRBY', counts, 'bytes', bytes)
return 1
