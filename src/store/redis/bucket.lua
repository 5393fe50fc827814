-- `token_bucket` and `leaky_bucket`, as src/algorithm/bucket.rs. A part of careful.lua, whose locals it sees.

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

  -- The time that a state of `at`, ahead of `now`, holds.
  local function held(t, level, at)
    if at > now + t.window then return now end
    local debt = level - t.burst * UNIT
    if debt <= 0 then return at end
    local latest = now + t.window - drain_time(t, debt)
    if latest < now then latest = now end
    return at < latest and at or latest
  end

  local function bucket(k, t, hits)
    local requests, burst, window = t.requests, t.burst * UNIT, t.window
    local deepest = burst + requests * UNIT
    local level, at = A[k], B[k]
    if not level then
      level, at = 0, now
    elseif at > now then
      local to = held(t, level < deepest and level or deepest, at)
      if to < at then
        at = to
        B[k] = at
        ahead = ahead + 1
        if WRITE[k] < 1 then WRITE[k] = 1 end
      end
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
