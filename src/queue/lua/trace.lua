-- What is known of a batch by its id.
--
-- KEYS: 1 prefix
-- ARGV: 1 id; of an open batch its name
-- Answers { state, description, when it was written, insert in ms, replica }, the last three only of a written
-- one; or nil. Changes nothing.

local prefix, id = KEYS[1], ARGV[1]

local description = redis.call('HGET', prefix .. 'meta', id)
if description then
  local dead = redis.call('HEXISTS', prefix .. 'dead', id) == 1
  return { dead and 'dead' or 'sealed', description }
end
local trail = redis.call('HGET', prefix .. 'trail', id)
if trail then return { 'written', trail } end
local opened = redis.call('ZRANGE', prefix .. 'open', 0, -1, 'WITHSCORES')
for i = 1, #opened, 2 do
  local key = prefix .. 'open:' .. opened[i] .. ':meta'
  local meta = redis.call('HMGET', key, 'name', 'rows', 'bytes', 'fragments', 'newest')
  if meta[1] == id then
    local figures = { meta[2], meta[3], meta[4], opened[i + 1], meta[5] }
    return { 'open', opened[i]:gsub(':', ' ') .. ' ' .. table.concat(figures, ' ') }
  end
end
return false
