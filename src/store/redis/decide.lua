-- Decides a batch of requests, each all or nothing, and charges its counters. Everything is decided before the first
-- write, so an error reply means that nothing was charged.
--
-- KEYS     the distinct counters of the batch
-- ARGV[1]  '<dd'        now in µs (0: Redis' TIME), and the time after which nothing may be charged (0: none)
-- ARGV[2]  '<dddddddd'  per term: algorithm (0 to 4, as Algorithm::ALL), hits, charge_denied, role (0 enforced, 1 quota,
--                       2 shadow), requests, window, sub-windows, burst
-- ARGV[3]  '<I2BB' per request: times, gate, asks - 1; then '<I2I2' per ask: key, term. The gate is the sum of
--                       1 quota_open, 2 never_deny, 4 the request comes once and its counters are asked about nowhere
--                       else in the batch, 8 another part of it was denied; never both of 4 and 8
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

local function careful()
  local U32 = 4294967295
  local UNIT = 1048576 -- parts of a hit that a bucket counts

  -- Counters, column by column; A is false for an empty one. Sliding: index, count, older, oldest, pairs. Fixed: index,
  -- count. Log: newest, sum, dead, live, entries, hits of the last entry where it isn't among those. Bucket: level, at.
  local A, B, C, D, E, F = {}, {}, {}, {}, {}, {}
  local DEADLINE = {} -- of the key, in ms
  local TERM = {}     -- the last one put to the counter; nil until its value is unpacked
  local WRITE = {}    -- 0 nothing, 1 the header in place, 2 also what is behind it, 3 the whole value

  local function spoilt(k)
    if damaged == 0 then first_damaged = k end
    damaged = damaged + 1
    A[k], WRITE[k] = false, 0
    raw[k] = false
  end

  -- By algorithm: unpack a value, put a term to it, pack it (a sliding window's pairs only where asked), when an absent
  -- key would mean the same; and how to write in place, where one SETRANGE isn't enough.
  local OPEN, STEP, VALUES, EXPIRES, REWRITE, USES = {}, {}, {}, {}, {}, {}
  for i = 1, #terms do USES[terms[i].algorithm] = true end

  -- Sliding window: src/algorithm/sliding.rs.
  if USES[0] then
    local function open_sliding(k, s)
      local size = #s
      if size < 24 then return spoilt(k) end
      local till, index, count, older, oldest, pairs = unpick('<I6I7I4I5BB', s)
      if till > DEADLINE_MAX or index >= WHOLE_MAX or oldest > 64 or oldest > index or pairs > oldest
        or size < 24 + 5 * pairs or (pairs == 0 and (older > 0 or oldest > 0)) then
        return spoilt(k)
      end
      local behind = ''
      if pairs > 0 then
        behind = sub(s, 25, 24 + 5 * pairs)
        if (index - byte(behind, 1)) % 256 ~= oldest then return spoilt(k) end
      end
      DEADLINE[k], B[k], C[k], D[k], E[k] = till, count, older, oldest, behind
      A[k] = (count > 0 or older > 0) and index
    end

    -- The sub-window with which, oldest first, at least `need` hits have left, of those that still count at `at`.
    local function until_left(need, at, n, index, count, oldest, pairs)
      local first = index - oldest
      if need <= 1 and first + n >= at and (oldest > 0 or count > 0) then return first end
      local last, left = index, 0
      for pos = 1, #pairs, 5 do
        local p, hits = unpick('<BI4', pairs, pos)
        p = index - (index - p) % 256
        if p + n >= at then
          last, left = p, left + hits
          if left >= need then return p end
        end
      end
      if count > 0 and index + n >= at then return index end
      return last
    end

    local function sliding(k, t, hits)
      local n, part, requests, at = t.n, t.part, t.requests, t.index
      local index, count, older, oldest, pairs = A[k], B[k], C[k], D[k], E[k]
      if not index then
        index, count, older, oldest, pairs = at, 0, 0, 0, ''
      elseif index > at then
        if index > at + n then
          local to = at
          if to < oldest then to = oldest end
          local moved = {}
          for pos = 1, #pairs, 5 do
            local p, c = unpick('<BI4', pairs, pos)
            moved[#moved + 1] = pack('<BI4', (p - (index - to)) % 256, c)
          end
          index, pairs = to, table.concat(moved)
          A[k], E[k] = index, pairs
          ahead = ahead + 1
          if WRITE[k] < 2 then WRITE[k] = 2 end
          if index > at then at = index end
        else
          at = index
        end
      end

      local used
      if at - index + oldest <= n then
        used = older + count
      else
        used = 0
        for pos = 1, #pairs, 5 do
          local p, c = unpick('<BI4', pairs, pos)
          if index - (index - p) % 256 + n >= at then used = used + c end
        end
        if index + n >= at then used = used + count end
      end

      local admitted = hits < 0 or used + hits <= requests
      local before = used
      if hits ~= 0 and (admitted or t.charges) then
        local write = 1
        if at ~= index then
          write = 2
          if at - index > n then
            count, older, oldest, pairs = 0, 0, 0, ''
          else
            if at - index + oldest > n then
              local pos, size = 1, #pairs
              while pos <= size do
                local p, c = unpick('<BI4', pairs, pos)
                if index - (index - p) % 256 + n >= at then break end
                older, pos = older - c, pos + 5
              end
              pairs = sub(pairs, pos)
            end
            if count > 0 then
              pairs = pairs .. pack('<BI4', index % 256, count)
              older, count = older + count, 0
            end
            oldest = pairs == '' and 0 or (at - byte(pairs, 1)) % 256
          end
          index = at
        end
        if hits > 0 then
          count = count + hits
          if count > U32 then count = U32 end
        else
          local back, pos, size, left = -hits, 1, #pairs, ''
          while pos <= size and back > 0 do
            local p, c = unpick('<BI4', pairs, pos)
            pos = pos + 5
            if c > back then
              older, left, back = older - back, pack('<BI4', p, c - back), 0
            else
              older, back = older - c, back - c
            end
          end
          if pos > 1 then
            pairs, write = left .. sub(pairs, pos), 2
          end
          count = back < count and count - back or 0
          oldest = pairs == '' and 0 or (index - byte(pairs, 1)) % 256
        end
        used = older + count
        A[k], B[k], C[k], D[k], E[k] = used > 0 and index, count, older, oldest, pairs
        if write > WRITE[k] then WRITE[k] = write end
      end

      local counted = admitted and used or before
      local remaining = counted < requests and requests - counted or 0
      local leaves
      if not admitted then
        if hits > requests then return false, remaining, t.window end
        leaves = until_left(used + hits - requests, at, n, index, count, oldest, pairs)
      elseif remaining > 0 then
        if used == 0 then return true, remaining, 0 end
        leaves = index
        if count == 0 and pairs ~= '' then leaves = index - (index - byte(pairs, -5)) % 256 end
      elseif requests == 0 then
        return true, 0, t.window
      else
        leaves = until_left(used + 1 - requests, at, n, index, count, oldest, pairs)
      end
      return admitted, remaining, (leaves + n + 1) * part - now
    end

    local function sliding_value(k, t, whole)
      local index = A[k] or t.index
      local head = pack('<I6I7I4I5BB', DEADLINE[k], index, B[k], C[k], D[k], #E[k] / 5)
      return whole and head .. E[k] or head
    end

    local function sliding_expires(k, t)
      local newest = A[k]
      if B[k] == 0 and E[k] ~= '' then newest = newest - (newest - byte(E[k], -5)) % 256 end
      return (newest + t.n + 1) * t.part
    end

    OPEN[0], STEP[0], VALUES[0], EXPIRES[0] = open_sliding, sliding, sliding_value, sliding_expires
  end

  -- Fixed window: src/algorithm/fixed.rs.
  if USES[1] then
    local function open_fixed(k, s)
      if #s < 20 then return spoilt(k) end
      local till, index, count = unpick('<I6I7I7', s)
      if till > DEADLINE_MAX or index >= WHOLE_MAX or count >= WHOLE_MAX then return spoilt(k) end
      DEADLINE[k], B[k] = till, count
      A[k] = count > 0 and index
    end

    local function fixed(k, t, hits)
      local requests, at = t.requests, t.index
      local index, count = A[k], B[k]
      if not index then
        index, count = at, 0
      elseif index > at + 1 then
        index = at
        A[k] = at
        ahead = ahead + 1
        if WRITE[k] < 1 then WRITE[k] = 1 end
      elseif index > at then
        at = index
      elseif index < at then
        count = 0
      end

      local admitted = hits < 0 or count + hits <= requests
      local before = count
      if hits ~= 0 and (admitted or t.charges) then
        count = count + hits
        if count >= WHOLE_MAX then count = WHOLE_MAX - 1 end
        if count < 0 then count = 0 end
        A[k], B[k] = count > 0 and at, count
        if WRITE[k] < 1 then WRITE[k] = 1 end
      end
      local counted = admitted and count or before
      local remaining = counted < requests and requests - counted or 0
      if not admitted and hits > requests then return false, remaining, t.window end
      return admitted, remaining, (at + 1) * t.window - now
    end

    local function fixed_value(k, t)
      return pack('<I6I7I7', DEADLINE[k], A[k] or t.index, B[k])
    end

    local function fixed_expires(k, t)
      return (A[k] + 1) * t.window
    end

    OPEN[1], STEP[1], VALUES[1], EXPIRES[1] = open_fixed, fixed, fixed_value, fixed_expires
  end

  -- Sliding log: src/algorithm/log.rs.
  if USES[2] then
    local function open_log(k, s)
      if #s < 27 then return spoilt(k) end
      local till, newest, sum, dead, live = unpick('<I6I7I6I4I4', s)
      if till > DEADLINE_MAX or newest >= WHOLE_MAX or #s < 27 + 11 * (dead + live)
        or (live > 0 and unpick('<I7', s, 28 + 11 * (dead + live - 1)) ~= newest) then
        return spoilt(k)
      end
      DEADLINE[k], B[k], C[k], D[k], E[k] = till, sum, dead, live, sub(s, 28, 27 + 11 * (dead + live))
      A[k] = live > 0 and newest
    end

    -- Entry `i` (0 is the first, dead or not): its time and hits.
    local function entry(k, i)
      if 11 * i < #E[k] then return unpick('<I7I4', E[k], 11 * i + 1) end
      return A[k], F[k]
    end

    -- The time of the entry with which at least `need` hits have left, from entry `i` on.
    local function log_until(k, need, i)
      local left = 0
      for j = i, C[k] + D[k] - 1 do
        local time, hits = entry(k, j)
        left = left + hits
        if left >= need then return time end
      end
      return A[k]
    end

    local function log_shift(k)
      local moved, by = {}, A[k] - now
      for j = C[k], C[k] + D[k] - 1 do
        local time, hits = entry(k, j)
        moved[#moved + 1] = pack('<I7I4', time > by and time - by or 0, hits)
      end
      A[k], C[k], E[k], F[k], WRITE[k] = now, 0, table.concat(moved), 0, 3
      ahead = ahead + 1
    end

    -- Adds hits at a time that is not before the newest; returns how many were added, for an entry saturates.
    local function log_push(k, time, hits)
      if hits > U32 then hits = U32 end
      if D[k] == 0 or A[k] ~= time then
        -- The entry before, if it is still loose, joins the others: all hits of a batch have one time, so this is rare.
        if F[k] > 0 then
          E[k], WRITE[k] = E[k] .. pack('<I7I4', A[k], F[k]), 3
        end
        A[k], D[k], F[k] = time, D[k] + 1, hits
        return hits
      end
      if F[k] == 0 then
        local _, last = entry(k, C[k] + D[k] - 1)
        E[k], F[k] = sub(E[k], 1, 11 * (C[k] + D[k] - 1)), last
      end
      local total = F[k] + hits
      if total > U32 then total = U32 end
      local added = total - F[k]
      F[k] = total
      return added
    end

    -- Takes up to `back` hits from the oldest; returns how many there were.
    local function log_take(k, back)
      local taken, size = 0, D[k]
      for _ = 1, size do
        local time, hits = entry(k, C[k])
        if taken + hits > back then
          local left = taken + hits - back
          if 11 * C[k] < #E[k] then
            E[k] = sub(E[k], 1, 11 * C[k]) .. pack('<I7I4', time, left) .. sub(E[k], 11 * C[k] + 12)
          else
            F[k] = left
          end
          WRITE[k] = 3
          return back
        end
        taken, C[k], D[k] = taken + hits, C[k] + 1, D[k] - 1
      end
      return taken
    end

    -- Keeps the log small: no more entries than can matter, and not more dead ones than live ones. Returns the hits that
    -- did not fit where two entries became one.
    local function log_settle(k, requests)
      local lost = 0
      if D[k] > requests + 1 and D[k] > 1 then
        local _, oldest = entry(k, C[k])
        C[k], D[k] = C[k] + 1, D[k] - 1
        local time, hits = entry(k, C[k])
        hits = hits + oldest
        if hits > U32 then
          lost, hits = hits - U32, U32
        end
        if 11 * C[k] < #E[k] then
          E[k] = sub(E[k], 1, 11 * C[k]) .. pack('<I7I4', time, hits) .. sub(E[k], 11 * C[k] + 12)
        else
          F[k] = hits
        end
        WRITE[k] = 3
      end
      if C[k] > D[k] then
        E[k], C[k], WRITE[k] = sub(E[k], 11 * C[k] + 1), 0, 3
      end
      return lost
    end

    local function log(k, t, hits)
      local requests, window = t.requests, t.window
      if A[k] and A[k] > now + window then log_shift(k) end
      local at = A[k] and A[k] > now and A[k] or now
      local used, skip = 0, 0
      if A[k] then
        used, skip = B[k], C[k]
        while skip < C[k] + D[k] do
          local time, gone = entry(k, skip)
          if time + window > at then break end
          used, skip = used - gone, skip + 1
        end
      end

      local admitted = hits < 0 or used + hits <= requests
      local before = used
      if hits ~= 0 and (admitted or t.charges) then
        if not A[k] then B[k], C[k], D[k], E[k], F[k] = 0, 0, 0, '', 0 end
        if WRITE[k] < 1 then WRITE[k] = 1 end
        D[k], C[k] = D[k] - (skip - C[k]), skip
        if hits < 0 then
          used = used - log_take(k, -hits)
        else
          used = used + log_push(k, at, hits)
        end
        used = used - log_settle(k, requests)
        B[k], skip = used, C[k]
        if used == 0 then A[k] = false end
      end

      local counted = admitted and used or before
      local remaining = counted < requests and requests - counted or 0
      local need
      if not admitted then
        if hits > requests then return false, remaining, window end
        need = used + hits - requests
      elseif remaining > 0 then
        if used == 0 then return true, remaining, 0 end
        need = used
      elseif requests == 0 then
        return true, 0, window
      else
        need = used + 1 - requests
      end
      if not A[k] then return admitted, remaining, window end
      return admitted, remaining, log_until(k, need, skip) + window - now
    end

    local function log_head(k)
      return pack('<I6I7I6I4I4', DEADLINE[k], A[k] or 0, B[k], C[k], D[k])
    end

    local function log_last(k)
      return F[k] > 0 and pack('<I7I4', A[k], F[k]) or ''
    end

    local function log_value(k)
      -- What is dead need not be written again.
      E[k], C[k] = sub(E[k], 11 * C[k] + 1), 0
      return log_head(k) .. E[k] .. log_last(k)
    end

    -- In place: the entry behind the others first, then the header that counts it.
    REWRITE[2] = function(k)
      if F[k] > 0 then call('SETRANGE', keys[k], 27 + 11 * (C[k] + D[k] - 1), log_last(k)) end
      call('SETRANGE', keys[k], '0', log_head(k))
    end

    local function log_expires(k, t)
      return A[k] + t.window
    end

    OPEN[2], STEP[2], VALUES[2], EXPIRES[2] = open_log, log, log_value, log_expires
  end

  -- Token bucket and leaky bucket: src/algorithm/bucket.rs.
  if USES[3] or USES[4] then
    local function open_bucket(k, s)
      if #s < 20 then return spoilt(k) end
      local till, level, at = unpick('<I6I7I7', s)
      if till > DEADLINE_MAX or level >= WHOLE_MAX or at >= WHOLE_MAX then return spoilt(k) end
      DEADLINE[k], B[k] = till, at
      A[k] = level > 0 and level
    end

    local function drained(t, elapsed)
      return floor(elapsed * t.requests * UNIT / t.window)
    end

    local function drain_time(t, need)
      if t.requests == 0 then return t.window end
      local wait = -floor(-(need * t.window / (t.requests * UNIT)))
      if wait >= WAIT_MAX then return WAIT_MAX end
      while drained(t, wait) < need do wait = wait + 1 end
      while wait > 0 and drained(t, wait - 1) >= need do wait = wait - 1 end
      return wait
    end

    local function bucket(k, t, hits)
      local requests, burst, window = t.requests, t.burst * UNIT, t.window
      local deepest = burst + requests * UNIT
      local level, at = A[k], B[k]
      if not level then
        level, at = 0, now
      elseif at > now + window then
        at = now
        B[k] = at
        ahead = ahead + 1
        if WRITE[k] < 1 then WRITE[k] = 1 end
      end
      if level > deepest then level = deepest end
      local current = at > now and at or now
      local left = level - drained(t, current - at)
      if left < 0 then left = 0 end

      local units = (hits < 0 and -hits or hits) * UNIT
      local passes = hits == 0 or (requests > 0 and units <= burst)
      local admitted = hits < 0 or (passes and left <= burst - units)
      local before = left
      if hits ~= 0 and (admitted or t.charges) then
        at = current
        if hits < 0 then
          level = left > units and left - units or 0
        else
          level = left + units
          if level > deepest then level = deepest end
        end
        A[k], B[k] = level > 0 and level, at
        if WRITE[k] < 1 then WRITE[k] = 1 end
      end

      left = level - drained(t, current - at)
      if left < 0 then left = 0 end
      local counted = admitted and left or before
      local remaining = 0
      if requests > 0 and counted < burst then remaining = floor((burst - counted) / UNIT) end
      local need
      if not admitted then
        if not passes then return false, remaining, window end
        need = level - (burst - units)
      elseif remaining > 0 then
        if left == 0 then return true, remaining, 0 end
        need = level
      else
        if burst == 0 or requests == 0 then return true, remaining, window end
        need = level - (burst - UNIT)
      end
      local reset = at + drain_time(t, need) - now
      return admitted, remaining, reset > 0 and reset or 0
    end

    local function bucket_value(k)
      return pack('<I6I7I7', DEADLINE[k], A[k] or 0, B[k])
    end

    local function bucket_expires(k, t)
      local level, deepest = A[k], (t.burst + t.requests) * UNIT
      return B[k] + drain_time(t, level < deepest and level or deepest)
    end

    for either = 3, 4 do
      OPEN[either], STEP[either], VALUES[either], EXPIRES[either] = open_bucket, bucket, bucket_value, bucket_expires
    end
  end

  local function open(k, t)
    if not TERM[k] then
      WRITE[k], A[k], B[k], C[k], D[k], E[k], F[k], DEADLINE[k] = 0, false, 0, 0, 0, '', 0, 0
      if raw[k] then OPEN[t.algorithm](k, raw[k]) end
    end
    TERM[k] = t
  end

  -- Requests: src/store/settle.rs.

  local function answer(admitted, remaining, reset)
    answers[answered + 1] = admitted and remaining or -1 - remaining
    answers[answered + 2] = reset
    answered = answered + 2
    return admitted
  end

  -- Gives the last `count` numbers of the answers again, `times` times.
  local function repeat_answers(count, times)
    for _ = 1, times * count do
      answered = answered + 1
      answers[answered] = answers[answered - count]
    end
  end

  local A0, B0, C0, D0, E0, F0, WRITE0, SAVED, stamp = {}, {}, {}, {}, {}, {}, {}, {}, 0

  -- One request over `asks`, a list of counters and terms in turn; says whether doing it again would change nothing.
  local function settle(asks, gate)
    stamp = stamp + 1
    local size, admitted, ahead0, first = #asks, {}, ahead, answered
    local refused, charges, quotas, quotas_refused = false, false, 0, 0
    for i = 1, size, 2 do
      local k, t = asks[i], asks[i + 1]
      open(k, t)
      if SAVED[k] ~= stamp then
        SAVED[k] = stamp
        A0[k], B0[k], C0[k], D0[k], E0[k], F0[k], WRITE0[k] = A[k], B[k], C[k], D[k], E[k], F[k], WRITE[k]
      end
      local passed = answer(STEP[t.algorithm](k, t, t.hits))
      admitted[i] = passed
      if t.charges then charges = true end
      if t.role == 0 then
        refused = refused or not passed
      elseif t.role == 1 then
        quotas = quotas + 1
        if not passed then quotas_refused = quotas_refused + 1 end
      end
    end
    if gate < 8 and (gate >= 2 or not (refused or (gate % 2 == 0 and quotas > 0 and quotas == quotas_refused))) then
      return false
    end
    -- A counter from the future must come back to now though its request is denied, or it would refuse until then.
    local shifted = ahead ~= ahead0
    ahead = ahead0
    for i = 1, size, 2 do
      local k = asks[i]
      A[k], B[k], C[k], D[k], E[k], F[k], WRITE[k] = A0[k], B0[k], C0[k], D0[k], E0[k], F0[k], WRITE0[k]
    end
    for i = 1, size, 2 do
      local k, t = asks[i], asks[i + 1]
      if t.charges or admitted[i] or shifted then
        local _, remaining, reset = STEP[t.algorithm](k, t, t.charges and t.hits or 0)
        if admitted[i] then
          answers[first + i], answers[first + i + 1] = remaining, reset
        end
      end
    end
    return not charges
  end

  -- One request, `times` over: its asks are those at `at` in R.
  local function request(R, at, times, gate, count)
    if count == 1 and gate < 8 then
      local k, t = R[at] + 256 * R[at + 1], terms[R[at + 2] + 256 * R[at + 3]]
      local step, hits = STEP[t.algorithm], t.hits
      open(k, t)
      for i = 1, times do
        local admitted = answer(step(k, t, hits))
        if i < times and (hits == 0 or not (admitted or t.charges)) then
          repeat_answers(2, times - i)
          break
        end
      end
      return
    end
    local asks = {}
    for i = 1, 2 * count, 2 do
      local from = at + 2 * i - 2
      asks[i], asks[i + 1] = R[from] + 256 * R[from + 1], terms[R[from + 2] + 256 * R[from + 3]]
    end
    for i = 1, times do
      if settle(asks, gate) and i < times then
        repeat_answers(2 * count, times - i)
        break
      end
    end
  end

  -- Writes: in place while the key lives long enough, else anew.
  local function write(create)
    for k = 1, #keys do
      local t, write = TERM[k], WRITE[k]
      local algorithm = t and t.algorithm
      local expires = t and A[k] and (write > 0 or algorithm >= 3) and EXPIRES[algorithm](k, t)
      -- A lowered limit makes a bucket drain for longer than its key would live.
      if expires and write == 0 and raw[k] and DEADLINE[k] * 1000 < expires then write = 1 end
      if t and write > 0 then
        if not expires then
          if raw[k] then call('DEL', keys[k]) end
        elseif raw[k] and write < 3 and DEADLINE[k] * 1000 >= expires + slack(expires - now) then
          if REWRITE[algorithm] then
            REWRITE[algorithm](k)
          else
            call('SETRANGE', keys[k], '0', VALUES[algorithm](k, t, write > 1))
          end
        else
          DEADLINE[k] = new_deadline(expires)
          local failed = create(k, VALUES[algorithm](k, t, true), DEADLINE[k] - floor(now / 1000))
          if failed then return failed end
        end
      end
    end
  end

  return request, write
end

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
      local value, left = raw[k], t.leaves
      if left <= 0 then break end
      plan[planned + 1] = k
      if not value then
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
          plan[planned + 2], plan[planned + 3] = '13', pack('<I4', hits + t.hits)
        elseif hits > 0 then
          -- The sub-window before becomes the newest pair.
          plan[planned + 2] = '0'
          plan[planned + 3] = pack('<I6I7I4I5BB', till, t.index, t.hits, older + hits, oldest + turned, pairs + 1)
            .. sub(value, 25, 24 + 5 * pairs) .. pack('<BI4', index % 256, hits)
        else
          break
        end
      end
      answers[answered + 1], answers[answered + 2] = left, t.reset
      answered, planned, ask = answered + 2, planned + 3, ask + 4
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
