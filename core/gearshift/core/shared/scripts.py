"""What runs inside Redis, each script one atomic operation.

Rules: time is the server's, microseconds (only tests tell another). Amounts are whole numbers below 2^53, which is where
Lua's doubles stop being exact: millionths of a request or model token (so at most 9 thousand million in a bucket), and
thousand-millionths of a USD (so at most 9 million USD in a budget). A bucket's refill carries its remainder, so that
nothing is lost however often it is asked. Every key has a time to live: what is not there is full, or unspent.

Kinds of limit: `t` token bucket (capacity, refill a minute), `d` and `m` budget of a UTC day or month (capacity), `c` places
(capacity; each place a lease that runs out).
"""

from __future__ import annotations

_COMMON = """
local MINUTE = 60000000
local DAY = 86400000000
local function num(x) return string.format('%.0f', x) end
local function clock(told)
  if told ~= '' then return tonumber(told) end
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000000 + tonumber(t[2])
end
-- Level, remainder, and the claim of a waiter of another process, as they are now.
local function bucket(key, capacity, rate, now)
  local v = redis.call('HMGET', key, 'l', 'u', 'r', 'cw', 'ca', 'ct')
  local level, updated, rest = tonumber(v[1]), tonumber(v[2]), tonumber(v[3])
  if not level then level = capacity; updated = now; rest = 0 end
  if now > updated then
    local span = now - updated
    local minutes = math.floor(span / MINUTE)
    local left = span - minutes * MINUTE
    local whole = math.floor(rate / MINUTE)
    local part = left * (rate - whole * MINUTE) + rest
    local full = math.floor(part / MINUTE)
    level = level + minutes * rate + left * whole + full
    rest = part - full * MINUTE
    updated = now
  end
  if level >= capacity then level = capacity; rest = 0 end
  local claimed = 0
  if v[4] and tonumber(v[6]) > now then claimed = tonumber(v[5]) end
  return level, updated, rest, v[4], claimed
end
local function keep_bucket(key, capacity, rate, level, updated, rest)
  redis.call('HSET', key, 'l', num(level), 'u', num(updated), 'r', num(rest))
  redis.call('PEXPIRE', key, num(math.ceil((capacity - level) / rate * 60000) + 60000))
end
-- Number of a period, and when it ends.
local function period(kind, now)
  local day = math.floor(now / DAY)
  if kind == 'd' then return day, (day + 1) * DAY end
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  local ny, nm = year, month + 1
  if nm > 12 then ny = ny + 1; nm = 1 end
  local y = nm <= 2 and ny - 1 or ny
  local e = math.floor(y / 400)
  local yo = y - e * 400
  local dy = math.floor((153 * (nm > 2 and nm - 3 or nm + 9) + 2) / 5)
  local first = e * 146097 + yo * 365 + math.floor(yo / 4) - math.floor(yo / 100) + dy - 719468
  return year * 12 + month - 1, first * DAY
end
-- Spent in this period, and held ahead by processes.
local function spending(key, index)
  local v = redis.call('HMGET', key, 'p', 's', 'h')
  if tonumber(v[1]) ~= index then return 0, 0 end
  return tonumber(v[2]), tonumber(v[3])
end
local function keep_spending(key, index, ends, now, spent, held)
  redis.call('HSET', key, 'p', num(index), 's', num(spent), 'h', num(held))
  redis.call('PEXPIRE', key, num(math.ceil((ends - now) / 1000) + 3600000))
end
"""

RESERVE = (
    _COMMON
    + """
-- ARGV: time or '', process, '1' for who waits in line ('2' for a running stream, before whom nobody goes), lease
-- (microseconds); then for each key:
-- kind, capacity, rate, amount, and the lease's name or what this process holds ahead.
-- Gives: whether it was granted, the time, then for each key: the wait (microseconds; -1 unknown or never; 0 none), level.
local now, process, waits, runs, lease = clock(ARGV[1]), ARGV[2], ARGV[3] == '1', ARGV[3] == '2', tonumber(ARGV[4])
local reply, plans, granted = {1, num(now)}, {}, true
for i, key in ipairs(KEYS) do
  local at = 5 * i
  local kind, capacity, rate, amount, extra = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), ARGV[at + 4]
  local wait, left = 0, 0
  if kind == 't' then
    local level, updated, rest, who, claimed = bucket(key, capacity, rate, now)
    if runs or (waits and who == process) then claimed = 0 end
    if amount > capacity then amount = capacity end
    local lacking = amount + claimed - level
    if lacking > 0 then wait = math.ceil(lacking / rate * MINUTE) end
    left = level
    plans[i] = {level, updated, rest, who, amount, claimed}
  elseif kind == 'c' then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', num(now))
    left = capacity - redis.call('ZCARD', key)
    if left <= 0 then wait = -1 end
  else
    local index, ends = period(kind, now)
    local spent, held = spending(key, index)
    left = capacity - spent - (held - math.min(held, tonumber(extra)))
    if left <= 0 or amount > left then wait = (amount > capacity) and -1 or ends - now end
    plans[i] = {index, ends, spent, held, amount}
  end
  if wait ~= 0 then granted = false end
  reply[#reply + 1] = num(wait)
  reply[#reply + 1] = num(left)
end
for i, key in ipairs(KEYS) do
  local at = 5 * i
  local kind, capacity, rate, extra = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), ARGV[at + 4]
  local plan = plans[i]
  if granted then
    if kind == 't' then
      keep_bucket(key, capacity, rate, plan[1] - plan[5], plan[2], plan[3])
      if waits and plan[4] == process then redis.call('HDEL', key, 'cw', 'ca', 'ct') end
      reply[2 * i + 2] = num(plan[1] - plan[5])
    elseif kind == 'c' then
      redis.call('ZADD', key, num(now + lease), extra)
      redis.call('PEXPIRE', key, num(math.ceil(lease / 1000) + 60000))
      reply[2 * i + 2] = num(tonumber(reply[2 * i + 2]) - 1)
    else
      keep_spending(key, plan[1], plan[2], now, plan[3] + plan[5], plan[4])
      reply[2 * i + 2] = num(tonumber(reply[2 * i + 2]) - plan[5])
    end
  elseif kind == 't' and waits and plan[6] == 0 then
    local wait = tonumber(reply[2 * i + 1])
    if wait > 0 then
      keep_bucket(key, capacity, rate, plan[1], plan[2], plan[3])
      redis.call('HSET', key, 'cw', process, 'ca', num(plan[5]), 'ct', num(now + wait + 250000))
    elseif plan[4] == process then
      redis.call('HDEL', key, 'cw', 'ca', 'ct')
    end
  end
end
if not granted then reply[1] = 0 end
return reply
"""
)
"""Reserve from all limits of a call, or from none."""

ADJUST = (
    _COMMON
    + """
-- KEYS: what this process has done already, then limits. ARGV: time or '', the number of this adjustment, lease; then for
-- each limit: kind, capacity, rate, change, period; for places instead of change and period: leases given back, those
-- that go on, and their names. Doing one twice does nothing.
-- Gives: the time, then each limit's level.
local now, lease = clock(ARGV[1]), tonumber(ARGV[3])
local done = redis.call('GET', KEYS[1])
local again = done and tonumber(done) >= tonumber(ARGV[2])
local reply, at = {num(now)}, 4
for i = 2, #KEYS do
  local key, kind, capacity, rate = KEYS[i], ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local left
  if kind == 'c' then
    local gone, on = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
    at = at + 5
    for _ = 1, gone do redis.call('ZREM', key, ARGV[at]); at = at + 1 end
    for _ = 1, on do redis.call('ZADD', key, num(now + lease), ARGV[at]); at = at + 1 end
    redis.call('ZREMRANGEBYSCORE', key, '-inf', num(now))
    if on > 0 then redis.call('PEXPIRE', key, num(math.ceil(lease / 1000) + 60000)) end
    left = capacity - redis.call('ZCARD', key)
  else
    local change, which = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
    at = at + 5
    if kind == 't' then
      local level, updated, rest = bucket(key, capacity, rate, now)
      if not again then
        level = math.min(capacity, level + change)
        keep_bucket(key, capacity, rate, level, updated, rest)
      end
      left = level
    else
      local index, ends = period(kind, now)
      local spent, held = spending(key, index)
      if not again and (which == index or which < 0) then
        spent = math.max(0, spent - change)
        keep_spending(key, index, ends, now, spent, held)
      end
      left = capacity - spent - held
    end
  end
  reply[#reply + 1] = num(left)
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', 3600000)
return reply
"""
)
"""Put right what was reserved, give places back, and keep those that are in use."""

BEAT = (
    _COMMON
    + """
-- KEYS: the processes, then two for each budget: it, and who holds how much of it ahead. ARGV: time or '', process, how
-- long a process counts (microseconds), how long what it holds is valid; then for each budget: kind, capacity, share
-- wanted of what is left (millionths). Gives: the time, the number of processes, then for each budget what it holds, and 1
-- where what was spent before anybody shared it has been counted.
local now, process = clock(ARGV[1]), ARGV[2]
redis.call('ZADD', KEYS[1], num(now + tonumber(ARGV[3])), process)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', num(now))
redis.call('PEXPIRE', KEYS[1], num(math.ceil(tonumber(ARGV[3]) / 1000) + 60000))
local reply = {num(now), redis.call('ZCARD', KEYS[1])}
for i = 1, (#KEYS - 1) / 2 do
  local key, holders = KEYS[2 * i], KEYS[2 * i + 1]
  local kind, capacity, share = ARGV[3 * i + 2], tonumber(ARGV[3 * i + 3]), tonumber(ARGV[3 * i + 4])
  local index, ends = period(kind, now)
  local spent = spending(key, index)
  local left, others = capacity - spent, 0
  local all = redis.call('HGETALL', holders)
  for j = 1, #all, 2 do
    local p, amount, until_ = string.match(all[j + 1], '^(%d+):(%d+):(%d+)$')
    if tonumber(p) ~= index or tonumber(until_) <= now then
      redis.call('HDEL', holders, all[j])
    elseif all[j] ~= process then
      others = others + tonumber(amount)
    end
  end
  local mine = math.max(0, math.min(math.floor(left * share / 1000000), left - others))
  redis.call('HSET', holders, process, num(index) .. ':' .. num(mine) .. ':' .. num(now + tonumber(ARGV[4])))
  redis.call('PEXPIRE', holders, num(math.ceil(tonumber(ARGV[4]) / 1000) + 60000))
  keep_spending(key, index, ends, now, spent, others + mine)
  reply[#reply + 1] = num(mine)
  reply[#reply + 1] = redis.call('HEXISTS', key, 'seeded')
end
return reply
"""
)
"""Say that this process lives, count the processes, and hold a little money ahead."""

LEAVE = (
    _COMMON
    + """
-- As BEAT, for a process that stops: KEYS and ARGV 1 to 4 are the same.
local now, process = clock(ARGV[1]), ARGV[2]
redis.call('ZREM', KEYS[1], process)
for i = 1, (#KEYS - 1) / 2 do redis.call('HDEL', KEYS[2 * i + 1], process) end
return {num(now)}
"""
)
"""Give up this process's place among the processes, and what it held ahead (the next beat of any other counts anew)."""

SEED = (
    _COMMON
    + """
-- KEYS: a budget. ARGV: time or '', kind, spent. Counts only what nobody has counted yet: a budget that was seeded once, and
-- is there since, stays.
local now = clock(ARGV[1])
local index, ends = period(ARGV[2], now)
local v = redis.call('HMGET', KEYS[1], 'p', 's', 'h', 'seeded')
local spent, held = tonumber(ARGV[3]), 0
if tonumber(v[1]) == index then
  if v[4] then return {num(now), 0} end
  spent = spent + tonumber(v[2]); held = tonumber(v[3])
end
keep_spending(KEYS[1], index, ends, now, spent, held)
redis.call('HSET', KEYS[1], 'seeded', '1')
return {num(now), 1}
"""
)
"""Count in a budget what was spent before anybody shared it."""

BREAKERS = (
    _COMMON
    + """
-- KEYS: breakers. ARGV: time or '', process; then for each: outcomes since the last time ('0' answered, '1' fault, '2' refused
-- for the provider's rate limit, which counts only in a row), faults in
-- a row that open it, window, share of faults that opens it (millionths), how long it opens and at most (microseconds),
-- what has happened ('' nothing, 'o' opened for as long as follows, 'c' its probe was answered, 'f' its probe failed,
-- 'a' its probe was abandoned), for how long, and why. Gives the time; for each: open or not, how long still, why.
local now, process = clock(ARGV[1]), ARGV[2]
local reply = {num(now)}
for i, key in ipairs(KEYS) do
  local at = 9 * i - 6
  local outcomes, most, window, share = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local first, longest, event, for_, why = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), ARGV[at + 6], tonumber(ARGV[at + 7]), ARGV[at + 8]
  local v = redis.call('HMGET', key, 'open', 'until', 'for', 'row', 'seen', 'why', 'probe')
  local open, until_, span, row, seen = v[1] == '1', tonumber(v[2]) or 0, tonumber(v[3]) or first, tonumber(v[4]) or 0, v[5] or ''
  local reason, changed = v[6] or '', false
  local function opens(how_long, told)
    open = true; until_ = now + how_long; reason = told; row = 0; seen = ''; changed = true
    redis.call('HDEL', key, 'probe', 'lease')
  end
  if event == 'c' and open and v[7] == process then
    open = false; span = first; row = 0; seen = ''; changed = true
    redis.call('HDEL', key, 'probe', 'lease')
  elseif event == 'f' and v[7] == process then
    span = math.min(span * 2, longest)
    opens(for_, why)
  elseif event == 'o' then
    if not open or now + for_ > until_ then opens(for_, why) end
  elseif event == 'a' and v[7] == process then
    redis.call('HDEL', key, 'probe', 'lease')
  end
  if not open and #outcomes > 0 then
    local tail = string.match(outcomes, '[12]*$')
    row = (#tail == #outcomes) and row + #tail or #tail
    seen = string.sub(seen .. outcomes, -window)
    changed = true
    local _, faults = string.gsub(seen, '1', '')
    if row >= most or (#seen >= window and faults * 1000000 >= share * #seen) then
      opens(string.find(tail, '2') and math.min(span, 2000000) or span, why ~= '' and why or reason)
    end
  end
  if changed then
    redis.call('HSET', key, 'open', open and '1' or '0', 'until', num(until_), 'for', num(span), 'row', num(row), 'seen', seen, 'why', reason)
    redis.call('PEXPIRE', key, num(math.ceil(longest / 1000) + 3600000))
  end
  reply[#reply + 1] = open and 1 or 0
  reply[#reply + 1] = num(math.max(0, until_ - now))
  reply[#reply + 1] = reason
end
return reply
"""
)
"""Count outcomes of all processes, and give every breaker's state."""

PROBE = (
    _COMMON
    + """
-- KEYS: a breaker. ARGV: time or '', process, lease, and 1 where the call has nowhere else to go, so that it need not be time yet.
-- Gives: 0 it is closed; 1 and the wait: not yet, or another process probes; 2: this process may probe.
local now, process = clock(ARGV[1]), ARGV[2]
local v = redis.call('HMGET', KEYS[1], 'open', 'until', 'probe', 'lease')
if v[1] ~= '1' then return {0, '0'} end
if tonumber(v[2]) > now and ARGV[4] ~= '1' then return {1, num(tonumber(v[2]) - now)} end
if v[3] and v[3] ~= process and tonumber(v[4]) > now then return {1, num(tonumber(v[4]) - now)} end
redis.call('HSET', KEYS[1], 'probe', process, 'lease', num(now + tonumber(ARGV[3])))
return {2, '0'}
"""
)
"""Take the one place of a half-open breaker's probe."""
