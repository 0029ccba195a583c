-- Some dead letters by their ids, or the oldest ones. Changes nothing.
--
-- KEYS: 1 prefix
-- ARGV: 1 how many of the oldest, or 0; 2 … ids
-- Answers { id, description, why (JSON), id, description, why … } of those that are letters.

local prefix = KEYS[1]
local reply = {}
local function add(id)
  local why = redis.call('HGET', prefix .. 'dead', id)
  if not why then return end
  reply[#reply + 1] = id
  reply[#reply + 1] = redis.call('HGET', prefix .. 'meta', id) or ''
  reply[#reply + 1] = why
end
for i = 2, #ARGV do add(ARGV[i]) end
local oldest = redis.call('ZRANGEBYSCORE', prefix .. 'letters', '-inf', '+inf', 'LIMIT', 0, ARGV[1])
for _, id in ipairs(oldest) do add(id) end
return reply
