-- Gateways tell each other which time series they have let in: each metric has a log for each half of the
-- window, to which everybody appends, and which everybody reads from where he was.
--
-- KEYS: 1 how many bytes the logs of this half have together, then one log each
-- ARGV: 1 seconds until what begins now may go, 2 bytes that the logs of a half may have, 3 bytes that may be
--       answered; then two for each log: where the caller has read to, and what to append (empty: nothing)
-- Answers, for each log: where it is read to now (what was appended needn't be read by its author), the text
-- in between, 1 unless there was no room to append, 1 if others have written no more than that. A log that is
-- shorter than where the caller was has been lost, and begins anew. One entry is 16 characters or a multiple,
-- so no answer ends inside of one.

local ttl, bytes_max, answer_max = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local ENTRY = 16
local total = tonumber(redis.call('GET', KEYS[1]) or 0)
local answers = {}

for i = 2, #KEYS do
  local key, offset, text = KEYS[i], tonumber(ARGV[2 * i]), ARGV[2 * i + 1]
  local length = redis.call('STRLEN', key)
  if offset > length then offset = 0 end
  local read_to = math.min(length, offset + math.floor(answer_max / ENTRY) * ENTRY)
  local at_end, found = read_to == length, ''
  if read_to > offset then found = redis.call('GETRANGE', key, offset, read_to - 1) end
  answer_max = answer_max - #found
  local fits = total + #text <= bytes_max
  if text ~= '' and fits then
    if redis.call('INCRBY', KEYS[1], #text) == #text then redis.call('EXPIRE', KEYS[1], ttl) end
    redis.call('APPEND', key, text)
    if length == 0 then redis.call('EXPIRE', key, ttl) end
    total = total + #text
    if at_end then read_to = length + #text end
  end
  answers[#answers + 1] = { read_to, found, fits and 1 or 0, at_end and 1 or 0 }
end
return answers
