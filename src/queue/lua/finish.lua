-- Removes a batch whose insert has returned, with its bookkeeping.
--
-- KEYS: 1 prefix
-- ARGV: 1 id, 2 signal, 3 rows, 4 bytes, 5 when its newest fragment came, ms
-- Answers 1, or 0 when the batch was removed or buried before: then nothing changes. ZREM comes first because
-- it is never refused for want of memory; after a first write the others aren't either. So a full Redis can
-- be emptied.

local prefix, id, signal = KEYS[1], ARGV[1], ARGV[2]
local rows, bytes, newest = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local counts = prefix .. 'counts'

if redis.call('ZREM', prefix .. 'sealed', id) == 0 then return 0 end
redis.call('UNLINK', prefix .. 'batch:' .. id)
redis.call('HDEL', prefix .. 'meta', id)
redis.call('HINCRBY', counts, 'waiting:' .. signal, 0 - rows)
redis.call('HINCRBY', counts, 'written:' .. signal, rows)
redis.call('HINCRBY', counts, 'bytes', 0 - bytes)
local before = tonumber(redis.call('HGET', counts, 'newest:' .. signal) or 0)
if newest > before then redis.call('HSET', counts, 'newest:' .. signal, ARGV[5]) end
return 1
