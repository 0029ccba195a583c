-- Appends the fragments of one commit to the shard's open batches, and seals those that reach a bound.
-- Requests that the shard has already are recognised: then nothing is stored, and the answer says which.
--
-- KEYS: 1 prefix
-- ARGV: 1 id base (unique for ever; batches that are opened or sealed get it with a suffix), 2 signal, 3 rows of all fragments,
--       4 rows bound, 5 bytes bound, 6 age bound in ms, 7 generation of the routing that the rows were placed
--       by, 8 how many requests the shard may remember, 9 '1' to be told the name of each fragment's batch, 10 the
--       requests: their marks, 16 bytes each, one after another, 11 for how many seconds each is remembered
--       and 12 by which generation of the routing its own rows were placed: separated by spaces, or one
--       number for all; then three for each fragment: '<table>:<layout>', rows, payload
-- A batch is sealed before a fragment that would take it over rows or bytes (a fragment that is larger by
-- itself makes a batch of its own), and after a fragment with which it reaches rows, bytes or age.
-- Answers: see answer(); or { 'known', position from 0, … } of requests that are here already, or
-- { 'overtaken' } when a newer routing holds: in both cases no row was stored. All or nothing: the first write
-- is one that Redis refuses when it is out of memory, so a refusal comes before anything has changed.

local signal, total_rows = ARGV[2], ARGV[3]
local rows_max, bytes_max, age_max = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local generation, requests_max, telling = ARGV[7], tonumber(ARGV[8]), ARGV[9] == '1'
local MARK_BYTES = 16
local marks = ARGV[10]
local requests = #marks / MARK_BYTES
local FIRST_FRAGMENT = 13
-- A score is until when, in seconds, times this, plus the generation's remainder: ordered by time.
local GENERATIONS = 65536
-- Lua's stack bounds what one call may be given.
local MARKS_AT_ONCE = 1000
local now = now_ms()
local now_s = math.floor(now / 1000)
local total_bytes, forgotten = 0, 0
local opened = 0
local batches = {}

if tonumber(redis.call('HGET', prefix .. 'counts', 'generation') or 0) > tonumber(generation) then
  return { 'overtaken' }
end

local function mark_of(i)
  return string.sub(marks, i * MARK_BYTES + 1, (i + 1) * MARK_BYTES)
end

-- The numbers of a list, or its one number for every position.
local function numbers_of(list)
  local one = tonumber(list)
  if one then return function() return one end end
  local numbers = {}
  for number in list:gmatch('%d+') do numbers[#numbers + 1] = tonumber(number) end
  return function(i) return numbers[i + 1] end
end

local function known_requests()
  local known = { 'known' }
  for from = 0, requests - 1, MARKS_AT_ONCE do
    local some = {}
    for i = from, math.min(requests, from + MARKS_AT_ONCE) - 1 do some[#some + 1] = mark_of(i) end
    for i, score in ipairs(redis.call('ZMSCORE', prefix .. 'requests', unpack(some))) do
      if score and math.floor(tonumber(score) / GENERATIONS) > now_s then known[#known + 1] = from + i - 1 end
    end
  end
  return known
end

-- After the rows are in: what has expired makes room.
local function remember()
  local key = prefix .. 'requests'
  redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', now_s * GENERATIONS))
  local room = math.max(0, math.min(requests, requests_max - redis.call('ZCARD', key)))
  local seconds_of, generation_of = numbers_of(ARGV[11]), numbers_of(ARGV[12])
  for i = 0, room - 1 do
    local score = (now_s + 1 + seconds_of(i)) * GENERATIONS + generation_of(i) % GENERATIONS
    redis.call('ZADD', key, string.format('%.0f', score), mark_of(i))
  end
  forgotten = requests - room
end

if requests > 0 then
  local known = known_requests()
  if #known > 1 then
    -- A write, so that WAIT after it speaks of all that was written before, the known requests included.
    redis.call('HINCRBY', prefix .. 'counts', 'repeated:' .. signal, #known - 1)
    return known
  end
end

redis.call('HINCRBY', prefix .. 'counts', 'accepted:' .. signal, total_rows)
redis.call('HINCRBY', prefix .. 'counts', 'waiting:' .. signal, total_rows)
if requests > 0 then remember() end

for i = FIRST_FRAGMENT, #ARGV, 3 do
  local open, fragment_rows, payload = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  local list = prefix .. 'open:' .. open
  local meta = redis.call('HMGET', list .. ':meta', 'rows', 'bytes', 'fragments', 'newest', 'name')
  local rows, bytes, fragments = tonumber(meta[1] or 0), tonumber(meta[2] or 0), tonumber(meta[3] or 0)
  local name = meta[5] or nil
  if fragments > 0 and (rows + fragment_rows > rows_max or bytes + #payload > bytes_max) then
    seal(open, rows, bytes, fragments, meta[4], now, name)
    rows, bytes, fragments = 0, 0, 0
  end
  local since = now
  if fragments == 0 then
    redis.call('ZADD', prefix .. 'open', now, open)
    name = id_base .. '-' .. opened
    opened = opened + 1
  else
    since = tonumber(redis.call('ZSCORE', prefix .. 'open', open))
  end
  rows, bytes, fragments = rows + fragment_rows, bytes + #payload, fragments + 1
  total_bytes = total_bytes + #payload
  redis.call('RPUSH', list, payload)
  if telling then batches[#batches + 1] = name or '' end
  if rows >= rows_max or bytes >= bytes_max or math.abs(now - since) >= age_max then
    seal(open, rows, bytes, fragments, now, now, name)
  else
    local key = list .. ':meta'
    redis.call('HSET', key, 'rows', rows, 'bytes', bytes, 'fragments', fragments, 'newest', now)
    if fragments == 1 then redis.call('HSET', key, 'name', name) end
  end
end

redis.call('HINCRBY', prefix .. 'counts', 'bytes', total_bytes)
return answer(now, forgotten, batches)
