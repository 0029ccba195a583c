-- What the processes of an installation tell each other about pressure. Each calls a few times a second.
--
-- KEYS: 1 the hash
-- ARGV: 1 who calls, 2 what it says (any text), or empty to take its entry away, 3 after how many ms without
--       a call an entry is removed
-- Answers { id, age in ms, text, id, age in ms, text … } of all entries, the caller's own included.
--
-- The hash: id -> '<Redis' clock in ms> <text>'. A Redis that is full refuses to store an entry: then the
-- others are answered all the same.

local hash, id, text, stale_ms = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if text == '' then redis.call('HDEL', hash, id)
else redis.pcall('HSET', hash, id, string.format('%.0f ', now) .. text) end

local reply = {}
local fields = redis.call('HGETALL', hash)
for i = 1, #fields, 2 do
  local at, rest = fields[i + 1]:match('^(%d+) (.*)$')
  local age = at and now - tonumber(at) or stale_ms
  -- A clock that was set back makes entries look as if they came from later: those would stay for ever.
  if age >= stale_ms or age < 0 - stale_ms then
    redis.call('HDEL', hash, fields[i])
  else
    local place = #reply
    reply[place + 1], reply[place + 2], reply[place + 3] = fields[i], math.max(0, age), rest
  end
end
return reply
