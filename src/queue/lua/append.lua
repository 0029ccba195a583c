-- Appends the fragments of one commit to the shard's open batches, and seals those that reach a bound.
--
-- KEYS: 1 prefix
-- ARGV: 1 id base (unique for ever; sealed batches get it with a suffix), 2 signal, 3 rows of all fragments,
--       4 rows bound, 5 bytes bound, 6 age bound in ms, then three for each fragment: '<table>:<layout>',
--       rows, payload
-- A batch is sealed before a fragment that would take it over rows or bytes (a fragment that is larger by
-- itself makes a batch of its own), and after a fragment with which it reaches rows, bytes or age.
-- Answers: see answer(). All or nothing: the first write is one that Redis refuses when it is out of memory,
-- so a refusal comes before anything has changed.

local signal, total_rows = ARGV[2], ARGV[3]
local rows_max, bytes_max, age_max = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local now = now_ms()
local total_bytes = 0

redis.call('HINCRBY', prefix .. 'counts', 'accepted:' .. signal, total_rows)
redis.call('HINCRBY', prefix .. 'counts', 'waiting:' .. signal, total_rows)

for i = 7, #ARGV, 3 do
  local open, fragment_rows, payload = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  local list = prefix .. 'open:' .. open
  local meta = redis.call('HMGET', list .. ':meta', 'rows', 'bytes', 'fragments', 'newest')
  local rows, bytes, fragments = tonumber(meta[1] or 0), tonumber(meta[2] or 0), tonumber(meta[3] or 0)
  if fragments > 0 and (rows + fragment_rows > rows_max or bytes + #payload > bytes_max) then
    seal(open, rows, bytes, fragments, meta[4], now)
    rows, bytes, fragments = 0, 0, 0
  end
  local since = now
  if fragments == 0 then
    redis.call('ZADD', prefix .. 'open', now, open)
  else
    since = tonumber(redis.call('ZSCORE', prefix .. 'open', open))
  end
  rows, bytes, fragments = rows + fragment_rows, bytes + #payload, fragments + 1
  total_bytes = total_bytes + #payload
  redis.call('RPUSH', list, payload)
  if rows >= rows_max or bytes >= bytes_max or now - since >= age_max then
    seal(open, rows, bytes, fragments, now, now)
  else
    redis.call('HSET', list .. ':meta', 'rows', rows, 'bytes', bytes, 'fragments', fragments, 'newest', now)
  end
end

redis.call('HINCRBY', prefix .. 'counts', 'bytes', total_bytes)
return answer(now)
