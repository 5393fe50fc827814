-- `token_bucket` and `leaky_bucket`, as src/algorithm/bucket.rs. A part of careful.lua, whose locals it sees.
-- Columns: the level, which is what is in use in units of 2^-20 hits, and the time in µs at which it was so.
-- Value: '<I6I7I7' deadline of the key in ms, level, time.

if USES[3] or USES[4] then
  local LEVEL, TIME = A, B

  local function open_bucket(counter, value)
    if #value < 20 then return spoilt(counter) end
    local till, level, at = unpick('<I6I7I7', value)
    if till > DEADLINE_MAX or level >= WHOLE_MAX or at >= WHOLE_MAX then return spoilt(counter) end
    DEADLINE[counter], TIME[counter] = till, at
    LEVEL[counter] = level > 0 and level
  end

  local function drained(term, elapsed)
    return floor(elapsed * term.requests * UNIT / term.window)
  end

  local function drain_time(term, need)
    if term.requests == 0 then return term.window end
    local wait = -floor(-(need * term.window / (term.requests * UNIT)))
    if wait >= WAIT_MAX then return WAIT_MAX end
    while drained(term, wait) < need do wait = wait + 1 end
    while wait > 0 and drained(term, wait - 1) >= need do wait = wait - 1 end
    return wait
  end

  -- The time that a state with time `at`, ahead of `now`, keeps: src/algorithm/bucket.rs says why.
  local function held(term, level, at)
    if at > now + term.window then return now end
    local debt = level - term.burst * UNIT
    if debt <= 0 then return at end
    local latest = now + term.window - drain_time(term, debt)
    if latest < now then latest = now end
    return at < latest and at or latest
  end

  local function bucket(counter, term, hits)
    local requests, burst, window = term.requests, term.burst * UNIT, term.window
    local deepest = burst + requests * UNIT
    local level, at = LEVEL[counter], TIME[counter]
    if not level then
      level, at = 0, now
    elseif at > now then
      local to = held(term, level < deepest and level or deepest, at)
      if to < at then
        at = to
        TIME[counter] = at
        ahead = ahead + 1
        if WRITE[counter] < 1 then WRITE[counter] = 1 end
      end
    end
    if level > deepest then level = deepest end
    local current = at > now and at or now
    local left = level - drained(term, current - at)
    if left < 0 then left = 0 end

    local units = (hits < 0 and -hits or hits) * UNIT
    local passes = hits == 0 or (requests > 0 and units <= burst)
    local admitted = hits < 0 or (passes and left <= burst - units)
    local before = left
    if hits ~= 0 and (admitted or term.charges) then
      at = current
      if hits < 0 then
        level = left > units and left - units or 0
      else
        level = left + units
        if level > deepest then level = deepest end
      end
      LEVEL[counter], TIME[counter] = level > 0 and level, at
      if WRITE[counter] < 1 then WRITE[counter] = 1 end
    end

    left = level - drained(term, current - at)
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
    local reset = at + drain_time(term, need) - now
    return admitted, remaining, reset > 0 and reset or 0
  end

  local function bucket_value(counter)
    return pack('<I6I7I7', DEADLINE[counter], LEVEL[counter] or 0, TIME[counter])
  end

  local function bucket_expires(counter, term)
    local level, deepest = LEVEL[counter], (term.burst + term.requests) * UNIT
    return TIME[counter] + drain_time(term, level < deepest and level or deepest)
  end

  for either = 3, 4 do
    OPEN[either], STEP[either], VALUES[either], EXPIRES[either] = open_bucket, bucket, bucket_value, bucket_expires
  end
end
