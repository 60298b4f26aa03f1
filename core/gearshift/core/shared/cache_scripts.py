"""What runs in the server for the cached values that processes share: each script is one step that nothing comes between.

Rules: time is the server's own. Each key has a time to live. A script never looks at more than a page of entries.
"""

from __future__ import annotations

_MOST_PURGES = 1000
"""Purges of different meaning that are remembered; beyond, one of everything stands for them."""
_PURGES_KEPT_MS = 86_400_000
"""Longer than any call runs, so that a purge is remembered until all that began before it has ended; anew with each question
for purges, so that they are not taken for lost while somebody listens."""

# Keys: the index (a sorted set: entry, time of last use), the sizes (a hash: entry, bytes; `*` is their sum), and the purges (a
# hash: `n` is the last number, `b` the first one, and by what was meant the number of the last such purge). An entry is a
# hash of its own beside the index: value, tenant, task, generation, time stored, hits, size.

# Numbers begin at the server's time, in microseconds, so that they do not begin again where the server has lost its own.
_NUMBER = """
local kept_ms = KEPT_MS
local function number_of(purges, t)
  local number = redis.call('HGET', purges, 'n')
  if not number then
    number = string.format('%.0f', t[1] * 1000000 + t[2])
    redis.call('HSET', purges, 'n', number, 'b', number)
    redis.call('PEXPIRE', purges, kept_ms)
  end
  return number
end
local function meant(purges, t, scopes)
  number_of(purges, t)
  local number = redis.call('HINCRBY', purges, 'n', 1)
  if redis.call('HLEN', purges) + #scopes > MOST then
    local base = redis.call('HGET', purges, 'b')
    redis.call('DEL', purges)
    redis.call('HSET', purges, 'n', number, 'b', base, 's\\0\\0', number)
  else
    for i = 1, #scopes do redis.call('HSET', purges, 's' .. scopes[i], number) end
  end
  redis.call('PEXPIRE', purges, kept_ms)
end
""".replace("KEPT_MS", str(_PURGES_KEPT_MS)).replace("MOST", str(_MOST_PURGES))
GET = (
    _NUMBER
    + """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local found = {number_of(KEYS[2], t)}
for i = 1, #ARGV do
  local entry = KEYS[1] .. ':' .. ARGV[i]
  local value = redis.call('HGET', entry, 'v')
  if value then
    redis.call('HINCRBY', entry, 'h', 1)
    redis.call('ZADD', KEYS[1], 'XX', now, ARGV[i])
  end
  found[i + 1] = value
end
return found
"""
)
PUT = """
local index, sizes, purges = KEYS[1], KEYS[2], KEYS[3]
local key, ttl, size, most = ARGV[1], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
if ARGV[9] ~= '' then
  local begun = tonumber(ARGV[9])
  local scopes = {'b'}
  for _, tenant in ipairs({'', ARGV[3]}) do
    for _, task in ipairs({'', ARGV[4]}) do
      for _, one in ipairs({'', key}) do
        scopes[#scopes + 1] = 's' .. tenant .. '\\0' .. task .. '\\0' .. one
      end
    end
  end
  local last = tonumber(redis.call('HGET', purges, 'n'))
  local refused = not last or begun > last
  for _, number in ipairs(redis.call('HMGET', purges, unpack(scopes))) do
    refused = refused or (number and tonumber(number) > begun)
  end
  if refused then
    return {redis.call('ZCARD', index), tonumber(redis.call('HGET', sizes, '*')) or 0, 0, 0}
  end
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local entry = index .. ':' .. key
redis.call('DEL', entry)
redis.call('HSET', entry, 'v', ARGV[2], 't', ARGV[3], 'k', ARGV[4], 'g', ARGV[5], 's', now, 'h', 0, 'z', size)
redis.call('PEXPIRE', entry, ttl)
redis.call('ZADD', index, now, key)
local total = redis.call('HINCRBY', sizes, '*', size - (tonumber(redis.call('HGET', sizes, key)) or 0))
redis.call('HSET', sizes, key, size)
local evicted = 0
while total > most do
  local least = redis.call('ZPOPMIN', index)[1]
  if not least then break end
  redis.call('DEL', index .. ':' .. least)
  total = redis.call('HINCRBY', sizes, '*', -(tonumber(redis.call('HGET', sizes, least)) or 0))
  redis.call('HDEL', sizes, least)
  evicted = evicted + 1
end
for _, kept in ipairs({index, sizes}) do
  if redis.call('PTTL', kept) < ttl then redis.call('PEXPIRE', kept, ttl) end
end
return {redis.call('ZCARD', index), total, evicted, 1}
"""
LIST = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local listed = {}
local scanned = redis.call('ZSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
for i = 1, #scanned[2], 2 do
  local key = scanned[2][i]
  local entry = KEYS[1] .. ':' .. key
  local v = redis.call('HMGET', entry, 't', 'k', 'g', 's', 'h', 'z')
  if v[1] then
    listed[#listed + 1] =
      {key, v[1], v[2], v[3], now - tonumber(v[4]), tonumber(v[5]), tonumber(v[6]), redis.call('PTTL', entry)}
  else
    listed[#listed + 1] = {key}
  end
end
return {scanned[1], listed}
"""
DROP = """
local dropped = 0
for i = 1, #ARGV do
  dropped = dropped + redis.call('DEL', KEYS[1] .. ':' .. ARGV[i])
  redis.call('ZREM', KEYS[1], ARGV[i])
  local size = tonumber(redis.call('HGET', KEYS[2], ARGV[i]))
  if size then
    redis.call('HINCRBY', KEYS[2], '*', -size)
    redis.call('HDEL', KEYS[2], ARGV[i])
  end
end
return {dropped, redis.call('ZCARD', KEYS[1]), tonumber(redis.call('HGET', KEYS[2], '*')) or 0}
"""
MEAN = _NUMBER + "meant(KEYS[1], redis.call('TIME'), ARGV)\n"
REMOVE = (
    _NUMBER
    + """
local key, tenant = ARGV[1], ARGV[2]
meant(KEYS[3], redis.call('TIME'), {tenant .. '\\0\\0' .. key})
local entry = KEYS[1] .. ':' .. key
if redis.call('HGET', entry, 't') ~= tenant then return 0 end
redis.call('DEL', entry)
redis.call('ZREM', KEYS[1], key)
local size = tonumber(redis.call('HGET', KEYS[2], key))
if size then
  redis.call('HINCRBY', KEYS[2], '*', -size)
  redis.call('HDEL', KEYS[2], key)
end
return 1
"""
)
SINCE = (
    _NUMBER
    + """
local number = number_of(KEYS[1], redis.call('TIME'))
redis.call('PEXPIRE', KEYS[1], kept_ms)
local told = {number, redis.call('HGET', KEYS[1], 'b')}
if number == ARGV[1] then return told end
local begun = tonumber(ARGV[1])
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if string.sub(all[i], 1, 1) == 's' and tonumber(all[i + 1]) > begun then told[#told + 1] = string.sub(all[i], 2) end
end
return told
"""
)
TOUCH = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local ttl = tonumber(ARGV[1])
local touched = {}
for i = 2, #ARGV do
  local is_there = redis.call('PEXPIRE', KEYS[1] .. ':' .. ARGV[i], ttl)
  if is_there == 1 then redis.call('ZADD', KEYS[1], 'XX', now, ARGV[i]) end
  touched[i - 1] = is_there
end
for _, kept in ipairs(KEYS) do
  if redis.call('PTTL', kept) < ttl then redis.call('PEXPIRE', kept, ttl) end
end
return touched
"""
