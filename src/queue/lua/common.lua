-- Shared by append and seal_due: put in front of their texts when they are loaded.
--
-- Keys of a shard, all behind the hash tag KEYS[1] = '{s<n>}:' and therefore in one slot:
--   open                  zset   '<table>:<layout>' -> since when that open batch has been collecting, ms
--   open:<table>:<layout> list   its fragments;  …:meta hash rows, bytes, fragments, newest, name
--   batch:<id>            list   fragments of a sealed batch (dead letters too)
--   sealed                zset   id -> sealed at, ms
--   meta                  hash   id -> description, for sealed batches and dead letters
--   requests              zset   hash of a request -> until when it is remembered (append.lua)
--   counts                hash   accepted|written|waiting|dead|dropped:<signal> rows, newest:<signal> ms,
--                                bytes, deadBytes, repeated:<signal> requests, generation of the routing
--   trail                 hash   id -> description of a batch that was written, when, how;  trail:order list
--   parts:<id>            hash   range -> split|stored, of a batch that is being divided; letter -> why, of a
--                                dead letter that was replayed
--   dead                  hash   id -> why, JSON;  letters zset id -> buried at, ms
-- Times are Redis' own clock, so that gateways needn't agree on theirs.

local prefix = KEYS[1]
local id_base = ARGV[1]
local sealed = {}

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Ends an open batch: it gets its id, and its composition never changes again. The id begins with the name
-- that it has had since it was opened, but is new: a replica that takes over from a master may have the open
-- batch without its last fragments, and what it seals must not go by an id that was used with them.
-- A list that is gone (somebody deleted it) is sealed all the same: the writer then misses fragments, says so,
-- and the rows stay accounted for.
local function seal(open, rows, bytes, fragments, newest, now, name)
  local id = (name or 'unnamed') .. '.' .. id_base .. '-' .. (#sealed / 2)
  local list = prefix .. 'open:' .. open
  if redis.call('EXISTS', list) == 1 then redis.call('RENAME', list, prefix .. 'batch:' .. id) end
  redis.call('DEL', list .. ':meta')
  redis.call('ZREM', prefix .. 'open', open)
  redis.call('ZADD', prefix .. 'sealed', now, id)
  local figures = string.format('%.0f %.0f %.0f %.0f %.0f', rows, bytes, fragments, now, newest)
  local description = open:gsub(':', ' ') .. ' ' .. figures
  redis.call('HSET', prefix .. 'meta', id, description)
  sealed[#sealed + 1] = id
  sealed[#sealed + 1] = description
end

-- What append and seal_due answer: { bytes that batches and dead letters take, age of the oldest open batch
-- in ms or -1 when none is open, requests that there was no room to remember, { name of each fragment's batch,
-- if they were asked for }, id, description, id, description … of what was sealed }.
local function answer(now, forgotten, batches)
  local counts = redis.call('HMGET', prefix .. 'counts', 'bytes', 'deadBytes')
  local oldest = redis.call('ZRANGE', prefix .. 'open', 0, 0, 'WITHSCORES')
  local age = -1
  if oldest[2] then age = math.max(0, now - oldest[2]) end
  local reply = { (counts[1] or 0) + (counts[2] or 0), age, forgotten, batches }
  for i = 1, #sealed do reply[4 + i] = sealed[i] end
  return reply
end
