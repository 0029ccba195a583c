-- What a tenant may send, of all gateways together. Each gateway that has something of the tenant calls once
-- in a lease: it gives back what it had taken ahead and didn't use, or pays what it used beyond, and takes
-- ahead what it will need.
--
-- KEYS: 1 the hash of the tenant
-- ARGV: of items: 1 a second (0: no limit), 2 the most that collects, 3 given back (below 0: paid), 4 wanted,
--       5 used since the caller's last call; of bytes: 6 to 10 the same
-- Answers, as text: of items: granted, left (below 0: owed), used today; of bytes the same; ms until midnight.
--
-- The hash: at (s, with a fraction), items, bytes (what is left), day (days since 1970, UTC), items_day,
-- bytes_day (used on that day). A tenant whose hash is missing has everything: it was never here, or it was
-- quiet for two days, or Redis was emptied. By Redis' clock: one that goes back is taken for one that stands.

local EXPIRE_SECONDS, DAY_SECONDS = 172800, 86400

local hash = KEYS[1]
local stored = redis.call('HMGET', hash, 'at', 'items', 'bytes', 'day', 'items_day', 'bytes_day')
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local passed = math.max(0, now - tonumber(stored[1] or now))
local day = math.floor(now / DAY_SECONDS)
local same_day = tonumber(stored[4] or -1) == day
local fields = { 'HSET', hash, 'at', string.format('%.6f', now), 'day', day }
local answer = {}

local function settle(unit, arg, level, used_before)
  local rate, capacity, back = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 2])
  local granted, left = 0, 0
  if rate > 0 then
    left = math.min(capacity, tonumber(level or capacity) + passed * rate)
    left = math.min(capacity, left + back)
    granted = math.max(0, math.min(tonumber(ARGV[arg + 3]), left))
    left = left - granted
    fields[#fields + 1], fields[#fields + 2] = unit, string.format('%.3f', left)
  end
  local used = (same_day and tonumber(used_before or 0) or 0) + tonumber(ARGV[arg + 4])
  fields[#fields + 1], fields[#fields + 2] = unit .. '_day', string.format('%.0f', used)
  for _, figure in ipairs({ granted, left, used }) do answer[#answer + 1] = string.format('%.3f', figure) end
end

settle('items', 1, stored[2], stored[5])
settle('bytes', 6, stored[3], stored[6])
redis.call(unpack(fields))
redis.call('EXPIRE', hash, EXPIRE_SECONDS)
answer[#answer + 1] = string.format('%.0f', (DAY_SECONDS - now % DAY_SECONDS) * 1000)
return answer
