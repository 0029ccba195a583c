-- A page of the dead letters, in no order. Changes nothing.
--
-- KEYS: 1 prefix
-- ARGV: 1 cursor, 0 to begin; 2 about how many
-- Answers { next cursor, 0 at the end; id, description, why (JSON), id, description, why … }. As HSCAN does:
-- what is a letter from the first page to the last comes at least once.

local prefix = KEYS[1]
local page = redis.call('HSCAN', prefix .. 'dead', ARGV[1], 'COUNT', ARGV[2])
local reply = { page[1] }
for i = 1, #page[2], 2 do
  reply[#reply + 1] = page[2][i]
  reply[#reply + 1] = redis.call('HGET', prefix .. 'meta', page[2][i]) or ''
  reply[#reply + 1] = page[2][i + 1]
end
return reply
