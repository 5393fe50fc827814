-- Decides a batch of requests, each all or nothing, and charges its counters. Everything is decided before the first
-- write, so an error reply means that nothing was charged.
--
-- KEYS     the distinct counters of the batch
-- ARGV[1]  '<dd'        now in µs (0: Redis' TIME), and the time after which nothing may be charged (0: none)
-- ARGV[2]  '<dddddddd'  per term: algorithm (0 to 4, as Algorithm::ALL), hits, charge_denied, role (0 enforced, 1 quota,
--                       2 shadow), requests, window, sub-windows, burst
-- ARGV[3]  '<I2BB' per request: times, gate, asks - 1; then '<I2I2' per ask: key, term. The gate is the sum of
--                       1 quota_open, 2 never_deny, 4 the request comes once or has one ask, and its counters are asked
--                       about nowhere else in the batch, 8 another part of it was denied; never both of 4 and 8
-- ARGV[4]  where there are refunds: the channel to tell of them; behind it the keys that are given hits back
-- returns  '<dddd' now, damaged counters, the first of them, counters whose time was set back; then per request, time
--          and ask '<dd': remaining (-1 - remaining where refused), reset. Past the deadline: '<d' now alone.
--
-- Rust twins: `step` of src/algorithm/*.rs per algorithm, `settle` of src/store/settle.rs per request, and the packed
-- states of src/algorithm/layout.rs. All numbers are whole and below 2^53; sums are taken in an order that keeps them so.
--
-- Its cost is the number of Lua's steps, so it has two parts. The first takes the usual requests, sliding windows that
-- admit with hits to spare, in a plain loop without functions or tables; `careful` takes all others, and is only built
-- where one comes.

local call, byte, sub, floor, keys = redis.call, string.byte, string.sub, math.floor, KEYS
local pack, unpick = struct.pack, struct.unpack

local now, deadline = unpick('<dd', ARGV[1])
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

-- Terms. `part` and `index` are the sub-window's length (a fixed window is its own) and the current one. For terms that a
-- usual request may have, `leaves` is what they leave of an empty counter, `reset` when one that is hit now is empty
-- again, `deadline_min` the least deadline of its key; for others `leaves` is 0.
local terms = {}
for i = 1, #ARGV[2] / 64 do
  local algorithm, hits, charges, role, requests, window, n, burst = unpick('<dddddddd', ARGV[2], i * 64 - 63)
  local part = algorithm == 0 and -floor(-window / n) or window
  local index = floor(now / part)
  local leaves, expires = 0, (index + n + 1) * part
  if algorithm == 0 and hits > 0 then leaves = requests - hits end
  terms[i] = {
    algorithm = algorithm, hits = hits, charges = charges == 1, role = role, requests = requests, window = window,
    n = n, burst = burst, part = part, index = index, leaves = leaves, reset = expires - now,
    deadline_min = (expires + slack(expires - now)) / 1000, first = false, ttl = false,
  }
end

local raw = call('MGET', unpack(keys))
local answers, answered = {}, 4
local damaged, first_damaged, ahead = 0, 0, 0

-- What the first part will write, three by three: a counter, and an offset and what goes there, or false and the term
-- of a counter that begins now.
local plan, planned = {}, 0

-- The value and the TTL of a counter that begins now.
local function begin(t)
  local till = new_deadline((t.index + t.n + 1) * t.part)
  t.first = pack('<I6I7I4I5BB', till, t.index, t.hits, 0, 0, 0)
  t.ttl = string.format('%.0f', till - floor(now / 1000))
end

-- careful.lua goes here

local request, write

local R = { byte(ARGV[3], 1, -1) }
local at, size = 1, #R
while at < size do
  local times, gate, count = R[at] + 256 * R[at + 1], R[at + 2], R[at + 3] + 1
  at = at + 4
  local after = at + 4 * count
  local ask, answered_before, planned_before = after, answered, planned
  if gate >= 4 and gate < 8 then
    gate, ask = gate - 4, at
    while ask < after do
      local k, t = R[ask] + 256 * R[ask + 1], terms[R[ask + 2] + 256 * R[ask + 3]]
      -- What the last of `times` leaves; only a request of one ask comes several times.
      local value, hit = raw[k], t.hits
      local all = hit * times
      local left = t.leaves + hit - all
      if left <= 0 or t.leaves <= 0 then break end
      plan[planned + 1] = k
      if not value then
        if times > 1 then break end
        plan[planned + 2], plan[planned + 3] = false, t
      else
        if #value < 24 then break end
        local till, index, hits, older, oldest, pairs = unpick('<I6I7I4I5BB', value)
        local turned = t.index - index
        left = left - older - hits
        if left <= 0 or till < t.deadline_min or till > DEADLINE_MAX or turned < 0 or turned + oldest > t.n
          or pairs > oldest or #value < 24 + 5 * pairs then
          break
        end
        if turned == 0 then
          plan[planned + 2], plan[planned + 3] = '13', pack('<I4', hits + all)
        elseif hits > 0 then
          -- The sub-window before becomes the newest pair.
          plan[planned + 2] = '0'
          plan[planned + 3] = pack('<I6I7I4I5BB', till, t.index, all, older + hits, oldest + turned, pairs + 1)
            .. sub(value, 25, 24 + 5 * pairs) .. pack('<BI4', index % 256, hits)
        else
          break
        end
      end
      for before = times - 1, 0, -1 do
        answers[answered + 1], answers[answered + 2] = left + before * hit, t.reset
        answered = answered + 2
      end
      planned, ask = planned + 3, ask + 4
    end
  else
    ask = at
  end
  if ask < after then
    answered, planned = answered_before, planned_before
    if not request then request, write = careful() end
    request(R, at, times, gate, count)
  end
  at = after
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

for i = 1, planned, 3 do
  local k, offset, value = plan[i], plan[i + 1], plan[i + 2]
  if offset then
    call('SETRANGE', keys[k], offset, value)
  else
    if not value.first then begin(value) end
    local failed = create(k, value.first, value.ttl)
    if failed then return failed end
  end
end
local failed = write and write(create)
if failed then return failed end

-- An error here must not look like nothing was charged.
for i = 5, #ARGV do
  redis.pcall('PUBLISH', ARGV[4], ARGV[i])
end

answers[1], answers[2], answers[3], answers[4] = now, damaged, first_damaged, ahead
return pack('<' .. string.rep('d', answered), unpack(answers, 1, answered))
