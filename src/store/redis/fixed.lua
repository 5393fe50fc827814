-- `fixed_window`, as src/algorithm/fixed.rs. A part of careful.lua, whose locals it sees.

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
      -- A charge is taken back only while its window is the current one.
      if t.charged > 1 and floor(t.charged / t.window) ~= at then hits = 0 end
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
