-- How long requests are remembered from now on, by the rate of all gateways together; and the secret key of
-- their marks. Each gateway calls once a second.
--
-- KEYS: 1 the hash
-- ARGV: 1 requests since the caller's last call, repetitions not counted, 2 to 4 windows at low, busy and
--       fast traffic, s, 5 and 6 requests a second from which on traffic is busy, and fast, 7 a key for when
--       there is none, 32 hex digits
-- Answers { window in s, key, requests a second or -1 while that isn't known }.
--
-- Requests are counted in buckets of 10 s by Redis' clock; the rate is the mean of the last full ones, 3 at
-- most. At the end of each bucket the window moves towards what the rate asks for, by a tenth of itself at
-- most. Of gateways that differ in their settings, the one that ends a bucket decides.
--
-- The hash: key, bucket (number of the running one), now (its count), past (counts of the full ones, the
-- newest first), whole (0 while the running one was not seen from its start), window (s, with a fraction).

local BUCKET_SECONDS, BUCKETS, STEP = 10, 3, 0.1

local hash, count, offered_key = KEYS[1], tonumber(ARGV[1]), ARGV[7]
local quiet, busy, fast = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local busy_from, fast_from = tonumber(ARGV[5]), tonumber(ARGV[6])
local stored = redis.call('HMGET', hash, 'key', 'bucket', 'now', 'past', 'whole', 'window')

local key = stored[1]
if not key or #key ~= 32 or key:find('%X') then
  key = offered_key
  redis.call('HSET', hash, 'key', key)
end

local bucket, running = stored[2] and tonumber(stored[2]), tonumber(stored[3] or 0)
local whole, window = stored[5] == '1', tonumber(stored[6] or quiet)
local past = {}
for text in (stored[4] or ''):gmatch('%d+') do past[#past + 1] = tonumber(text) end

local function rate()
  if #past == 0 then return -1 end
  local sum = 0
  for _, full in ipairs(past) do sum = sum + full end
  return sum / #past / BUCKET_SECONDS
end

local function move()
  local found = rate()
  if found < 0 then return end
  local wanted = quiet
  if found >= busy_from then wanted = busy end
  if found >= fast_from then wanted = fast end
  local step = window * STEP
  window = math.max(window - step, math.min(window + step, wanted))
end

-- A clock that went back, or forward by more than is counted, and gateways that were all away: what was
-- counted says nothing about now. The window stays until a bucket was seen from start to end.
local current = math.floor(redis.call('TIME')[1] / BUCKET_SECONDS)
if not bucket or current < bucket or current > bucket + BUCKETS then
  bucket, running, whole, past = current, 0, false, {}
end
while bucket < current do
  if whole then
    table.insert(past, 1, running)
    past[BUCKETS + 1] = nil
  end
  bucket, running, whole = bucket + 1, 0, true
  move()
end
running = running + count

-- A Redis that is full refuses this: then the window stays as it is.
local saved = redis.pcall('HSET', hash, 'bucket', bucket, 'now', running, 'past', table.concat(past, ' '),
  'whole', whole and '1' or '0', 'window', string.format('%.6f', window))
if type(saved) == 'table' then window = tonumber(stored[6] or quiet) end
return { math.ceil(window), key, math.floor(rate()) }
