-- Removes a batch whose insert has returned, with its bookkeeping.
--
-- KEYS: 1 prefix
-- ARGV: 1 id, 2 signal, 3 rows, 4 bytes, 5 when its newest fragment came, ms; 6 how many written batches are
--       kept in mind, 7 how long the insert took, ms, 8 replica
-- Answers 1, or 0 when the batch was removed or set aside before: then nothing changes. ZREM comes first
-- because it is never refused for want of memory; after a first write the others aren't either. So a full
-- Redis can be emptied.

local prefix, id, signal = KEYS[1], ARGV[1], ARGV[2]
local rows, bytes, newest = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local trail_max = tonumber(ARGV[6])
local counts, trail = prefix .. 'counts', prefix .. 'trail'

if redis.call('ZREM', prefix .. 'sealed', id) == 0 then return 0 end
local description = redis.call('HGET', prefix .. 'meta', id)
redis.call('UNLINK', prefix .. 'batch:' .. id, prefix .. 'parts:' .. id)
redis.call('HDEL', prefix .. 'meta', id)
redis.call('HINCRBY', counts, 'waiting:' .. signal, 0 - rows)
redis.call('HINCRBY', counts, 'written:' .. signal, rows)
redis.call('HINCRBY', counts, 'bytes', 0 - bytes)
local before = tonumber(redis.call('HGET', counts, 'newest:' .. signal) or 0)
if newest > before then redis.call('HSET', counts, 'newest:' .. signal, ARGV[5]) end

if trail_max > 0 and description then
  local time = redis.call('TIME')
  local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  redis.call('HSET', trail, id, table.concat({ description, now, ARGV[7], ARGV[8] }, ' '))
  redis.call('LPUSH', trail .. ':order', id)
end
-- Two at most: so a bound that was lowered is reached step by step.
for _ = 1, 2 do
  if redis.call('LLEN', trail .. ':order') <= trail_max then break end
  redis.call('HDEL', trail, redis.call('RPOP', trail .. ':order'))
end
return 1
