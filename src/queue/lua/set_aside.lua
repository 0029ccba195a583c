-- Ends a batch that can't be stored as it is: so many of its rows are in ClickHouse, the rest are letters.
--
-- KEYS: 1 prefix
-- ARGV: 1 id, 2 signal, 3 rows, 4 bytes, 5 when its newest fragment came, ms, 6 rows that are in ClickHouse,
--       7 bytes that letters may take, 8 'all' or 'some', 9 '<table> <layout>', 10 when it was sealed, ms,
--       then for each letter: id, rows, bytes, fragments, why (JSON), how many payloads follow, payloads
-- A letter without payloads is the whole batch and keeps its list.
-- Answers { 'gone' } when the batch was ended before; { 'full', bytes of the letters that are there } when
-- they don't all fit and all should: then nothing has changed. Else { 'aside', position, position … } of
-- those (from 1) that had no room and were discarded, which only 'some' allows.
--
-- All or nothing. What takes more room than it makes begins with a write that Redis refuses when it is out of
-- memory. What makes more begins with ZREM, which is never refused: so a full Redis can be emptied. After a
-- first write no other one is refused.

local prefix, id, signal = KEYS[1], ARGV[1], ARGV[2]
local rows, bytes, newest, stored = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local bytes_max, all = tonumber(ARGV[7]), ARGV[8] == 'all'
local counts, time = prefix .. 'counts', redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if not redis.call('ZSCORE', prefix .. 'sealed', id) then return { 'gone' } end

local there = tonumber(redis.call('HGET', counts, 'deadBytes') or 0)
local letters, answer = {}, { 'aside' }
local kept_rows, kept_bytes, dropped_rows, new_bytes, whole = 0, 0, 0, 0, false
local at, position = 11, 0
while at <= #ARGV do
  local letter = {
    id = ARGV[at], rows = ARGV[at + 1], bytes = ARGV[at + 2], fragments = ARGV[at + 3],
    why = ARGV[at + 4], first = at + 6, last = at + 5 + ARGV[at + 5],
  }
  at, position = letter.last + 1, position + 1
  local payloads = letter.last >= letter.first
  if there + kept_bytes + letter.bytes <= bytes_max then
    letters[#letters + 1] = letter
    kept_rows, kept_bytes = kept_rows + letter.rows, kept_bytes + letter.bytes
    if payloads then new_bytes = new_bytes + letter.bytes else whole = true end
  elseif all then
    return { 'full', there }
  else
    answer[#answer + 1] = position
    dropped_rows = dropped_rows + letter.rows
  end
  if payloads and redis.call('EXISTS', prefix .. 'batch:' .. letter.id) == 1 then
    return redis.error_reply('ERR there is a batch ' .. letter.id .. ' already')
  end
end

if new_bytes > bytes then redis.call('HINCRBY', counts, 'deadBytes', 0) end
redis.call('ZREM', prefix .. 'sealed', id)
if whole then
  redis.call('HDEL', prefix .. 'parts:' .. id, 'letter')
else
  redis.call('UNLINK', prefix .. 'batch:' .. id, prefix .. 'parts:' .. id)
  redis.call('HDEL', prefix .. 'meta', id)
end
for _, letter in ipairs(letters) do
  for i = letter.first, letter.last do redis.call('RPUSH', prefix .. 'batch:' .. letter.id, ARGV[i]) end
  local description = { ARGV[9], letter.rows, letter.bytes, letter.fragments, ARGV[10], ARGV[5] }
  redis.call('HSET', prefix .. 'meta', letter.id, table.concat(description, ' '))
  local why = string.format('{"buriedAtMs":%.0f,', now) .. string.sub(letter.why, 2)
  redis.call('HSET', prefix .. 'dead', letter.id, why)
  redis.call('ZADD', prefix .. 'letters', now, letter.id)
end
redis.call('HINCRBY', counts, 'waiting:' .. signal, 0 - rows)
redis.call('HINCRBY', counts, 'written:' .. signal, stored)
redis.call('HINCRBY', counts, 'dead:' .. signal, kept_rows)
redis.call('HINCRBY', counts, 'dropped:' .. signal, dropped_rows)
redis.call('HINCRBY', counts, 'bytes', 0 - bytes)
redis.call('HINCRBY', counts, 'deadBytes', kept_bytes)
local before = tonumber(redis.call('HGET', counts, 'newest:' .. signal) or 0)
if stored > 0 and newest > before then redis.call('HSET', counts, 'newest:' .. signal, ARGV[5]) end
return answer
