-- Decides a batch of requests, each all or nothing, and charges its counters. Everything is decided before the first
-- write, so an error reply means that nothing was charged.
--
-- KEYS     the distinct counters of the batch
-- ARGV[1]  '<dd'        now in µs (0: Redis' TIME), and the time after which nothing may be charged (0: none); then
--          '<dddddddd'  per term: algorithm (0 to 4, as Algorithm::ALL), hits, charge_denied (of hits that take back a
--                       charge: its time), role (0 enforced, 1 quota, 2 shadow), requests, window, sub-windows, burst
-- ARGV[2]  '<I2I2BB'    per run: requests, how often each comes, gate, asks of each - 1; then per ask '<I2' its term.
--                       The gate is the sum of 1 quota_open, 2 never_deny, 4 apart, 8 another part of it was denied;
--                       never both of 4 and 8. Requests apart come once or have one ask, and their counters are asked
--                       about nowhere else. Their runs come first, and their counters are the first of KEYS, in order.
--                       Other runs are of one request, with '<I2' the key behind the term of each ask
-- ARGV[3]  where there are refunds: the channel to tell of them; behind it the keys that are given hits back
-- returns  '<dddd' now, damaged counters, the first of them, counters whose time was set back; then per request of a
--          run '<d' per ask: what it leaves after the last time, and a half; that is the usual answer, of a sliding window
--          that admitted each time with hits to spare. Any other: '<dd' per time and ask: remaining (-1 - remaining
--          where refused), reset. Past the deadline: '<d' now alone.
--
-- Rust twins: `step` and `undo` of src/algorithm.rs per algorithm, `settle` of src/store/settle.rs per request, and the
-- packed states of src/algorithm/layout.rs. All numbers are whole and below 2^53; sums are taken in an order that keeps them so.
--
-- Its cost is the number of Lua's steps, so it has two parts. The first takes the usual requests, sliding windows that
-- admit with hits to spare, in plain loops; `careful` takes all others, and is only built where one comes.

local call, byte, sub, floor, keys = redis.call, string.byte, string.sub, math.floor, KEYS
local pack, unpick = struct.pack, struct.unpack

local head, runs = ARGV[1], ARGV[2]
local now, deadline = unpick('<dd', head)
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end
if deadline > 0 and now > deadline then
  return pack('<d', now)
end

local WHOLE_MAX = 9007199254740992
local WAIT_MAX = 4503599627370496
-- A bucket's longest wait with its slack, and some more: a later deadline of a key, in ms, is no counter's.
local DEADLINE_MAX = floor((now + 3 * WAIT_MAX) / 1000)

-- A key lives until an absent one would mean the same, and at least an eighth of that time longer, so that it seldom
-- needs a new deadline; a new one is twice as far.
local function slack(life)
  return life > 8000000 and life / 8 or 1000000
end

local function new_deadline(expires)
  local life = expires - now
  return -floor(-(expires + (life > 2000000 and life or 2000000)) / 1000)
end

-- Terms. `part` and `index` are the sub-window's length (a fixed window is its own) and the current one; `expires` is
-- when a counter that is hit now is empty again, `deadline_min` the least deadline of its key. `most` is what a usual
-- request leaves of an empty counter, and the half of a usual answer; less than 1 where no request is usual.
local terms = {}
for at = 17, #head, 64 do
  local algorithm, hits, charges, role, requests, window, n, burst = unpick('<dddddddd', head, at)
  local part = algorithm == 0 and -floor(-window / n) or window
  local index = floor(now / part)
  local expires = (index + n + 1) * part
  terms[#terms + 1] = {
    algorithm = algorithm, hits = hits, charges = charges == 1, charged = charges, role = role, requests = requests, window = window,
    n = n, burst = burst, part = part, index = index, most = algorithm == 0 and hits > 0 and requests - hits + 0.5 or 0, expires = expires,
    deadline_min = (expires + slack(expires - now)) / 1000,
  }
end

local raw = call('MGET', unpack(keys))
local answers, answered = {}, 4
local damaged, first_damaged, ahead = 0, 0, 0

-- What the first part will write, by counter, false where it leaves that to `careful`: four bytes are the count of the
-- current sub-window, more are all from the index on, or all where the counter has a new TTL.
local puts, ttls = {}, {}

-- A counter that begins now, or whose key must live longer: its value up to the index.
local function prolong(k, t)
  local till = new_deadline(t.expires)
  ttls[k] = string.format('%.0f', till - floor(now / 1000))
  return pack('<I6', till)
end

-- The value of a counter that goes on in another sub-window than the one that it was last hit in, and what it held of
-- hits that still count.
local function turned(k, value, t, index, hits, older, all)
  local till, oldest, pairs = unpick('<I6', value), byte(value, 23, 24)
  local by, n, from = t.index - index, t.n, 25
  if by < 0 or pairs > oldest or #value < 24 + 5 * pairs or till > DEADLINE_MAX then return end
  if by > n then
    hits, older, oldest, pairs = 0, 0, 0, 0
  else
    oldest = by + oldest
    while oldest > n do
      if pairs == 0 then
        oldest = by
      else
        local _, left = unpick('<BI4', value, from)
        older, pairs, from = older - left, pairs - 1, from + 5
        oldest = pairs > 0 and (t.index - byte(value, from)) % 256 or by
      end
    end
    older, pairs = older + hits, pairs + 1
  end
  local put = pack('<I7I4I5BB', t.index, all, older, oldest, pairs)
  if pairs > 0 then
    -- The sub-window before becomes the newest pair.
    put = put .. sub(value, from, from + 5 * pairs - 6) .. pack('<BI4', index % 256, hits)
  end
  if till < t.deadline_min then put = prolong(k, t) .. put end
  return put, older
end

local one, several, write

local at, size = 1, #runs
-- The last counter of a run that was taken, and how many requests of the run are still to come.
local k, rest = 0, 0
local times, gate, count, apart, t, of
while rest > 0 or at <= size do
  if rest == 0 then
    rest, times, gate, count, at = unpick('<I2I2BB', runs, at)
    count = count + 1
    apart = gate >= 4 and gate < 8
    if apart then
      gate = gate - 4
      t, at = unpick('<I2', runs, at)
      t = terms[t]
      if count > 1 then
        of = { t }
        for i = 2, count do
          of[i], at = unpick('<I2', runs, at)
          of[i] = terms[of[i]]
        end
      end
    end
  end

  if apart and count == 1 and t.most >= 1 then
    local index, all, last = t.index, t.hits * times, k + rest
    local most = t.most + t.hits - all
    for i = k + 1, last do
      local value, put = raw[i]
      local left = most
      if value then
        if #value < 24 then break end
        local was, hits, older = unpick('<I7I4I5', value, 7)
        if hits == 0 then break end
        if was == index then
          put = pack('<I4', hits + all)
          left = left - hits - older
        else
          put, older = turned(i, value, t, was, hits, older, all)
          if not put then break end
          left = left - older
        end
        if left < 1 then break end
      else
        if left < 1 then break end
        put = prolong(i, t) .. pack('<I7I4I5BB', index, all, 0, 0, 0)
      end
      k, answered = i, answered + 1
      puts[i] = put
      answers[answered] = left
    end
    rest = last - k
  elseif apart and count > 1 then
    while rest > 0 do
      local i = 1
      while i <= count do
        local t, value, put = of[i], raw[k + i]
        local left = t.most
        if left < 1 then break end
        if value then
          if #value < 24 then break end
          local was, hits, older = unpick('<I7I4I5', value, 7)
          if hits == 0 then break end
          if was == t.index then
            put = pack('<I4', hits + t.hits)
            left = left - hits - older
          else
            put, older = turned(k + i, value, t, was, hits, older, t.hits)
            if not put then break end
            left = left - older
          end
          if left < 1 then break end
        else
          put = prolong(k + i, t) .. pack('<I7I4I5BB', t.index, t.hits, 0, 0, 0)
        end
        puts[k + i], answers[answered + i] = put, left
        i = i + 1
      end
      if i <= count then break end
      k, answered, rest = k + count, answered + count, rest - 1
    end
  end

  if rest > 0 then
    if not one then
-- careful.lua goes here
      one, several, write = careful()
    end
    local asks = {}
    for i = 1, 2 * count, 2 do
      if apart then
        k = k + 1
        puts[k] = false
        asks[i], asks[i + 1] = k, count == 1 and t or of[(i + 1) / 2]
      else
        local term
        term, asks[i], at = unpick('<I2I2', runs, at)
        asks[i + 1] = terms[term]
      end
    end
    if count == 1 and gate < 8 then
      one(asks[1], asks[2], times)
    else
      several(asks, times, gate)
    end
    rest = rest - 1
  end
end

local function create(k, value, ttl)
  local was = redis.pcall('SET', keys[k], value, 'PX', ttl, 'GET')
  if type(was) ~= 'table' or not was.err then return end
  if not string.find(was.err, 'WRONGTYPE', 1, true) then return was end
  -- Something else than a string lay there, which MGET shows as nothing.
  if damaged == 0 then first_damaged = k end
  damaged = damaged + 1
  call('SET', keys[k], value, 'PX', ttl)
end

for i = 1, k do
  local value = puts[i]
  if value then
    if #value == 4 then
      call('SETRANGE', keys[i], '13', value)
    elseif ttls[i] then
      local failed = create(i, value, ttls[i])
      if failed then return failed end
    else
      call('SETRANGE', keys[i], '6', value)
    end
  end
end
local failed = write and write(create)
if failed then return failed end

-- An error here must not look like nothing was charged.
for i = 4, #ARGV do
  redis.pcall('PUBLISH', ARGV[3], ARGV[i])
end

answers[1], answers[2], answers[3], answers[4] = now, damaged, first_damaged, ahead
return pack('<' .. string.rep('d', answered), unpack(answers, 1, answered))
