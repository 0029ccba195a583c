-- A shard's books at one moment. Changes nothing.
--
-- KEYS: 1 prefix
-- Answers { now in ms, sealed batches, sealed at of the oldest or -1, oldest open batch since or -1, dead
--           letters, requests remembered, field, value, field, value … of the hash `counts` }.

local prefix = KEYS[1]
local time = redis.call('TIME')
local oldest_sealed = redis.call('ZRANGE', prefix .. 'sealed', 0, 0, 'WITHSCORES')[2]
local oldest_open = redis.call('ZRANGE', prefix .. 'open', 0, 0, 'WITHSCORES')[2]
local reply = {
  time[1] * 1000 + math.floor(time[2] / 1000),
  redis.call('ZCARD', prefix .. 'sealed'),
  tonumber(oldest_sealed or -1),
  tonumber(oldest_open or -1),
  redis.call('HLEN', prefix .. 'dead'),
  redis.call('ZCARD', prefix .. 'requests'),
}
for _, value in ipairs(redis.call('HGETALL', prefix .. 'counts')) do reply[#reply + 1] = value end
return reply
