-- `fixed_window`, as src/algorithm/fixed.rs. A part of careful.lua, whose locals it sees.
-- Columns: the window's index (floor(time / window)) and its count.
-- Value: '<I6I7I7' deadline of the key in ms, index, count.

if USES[1] then
  local INDEX, COUNT = A, B

  local function open_fixed(counter, value)
    if #value < 20 then return spoilt(counter) end
    local till, index, count = unpick('<I6I7I7', value)
    if till > DEADLINE_MAX or index >= WHOLE_MAX or count >= WHOLE_MAX then return spoilt(counter) end
    DEADLINE[counter], COUNT[counter] = till, count
    INDEX[counter] = count > 0 and index
  end

  local function fixed(counter, term, hits)
    local requests, at = term.requests, term.index
    local index, count = INDEX[counter], COUNT[counter]
    if not index then
      index, count = at, 0
    elseif index > at + 1 then
      index = at
      INDEX[counter] = at
      ahead = ahead + 1
      if WRITE[counter] < 1 then WRITE[counter] = 1 end
    elseif index > at then
      at = index
    elseif index < at then
      count = 0
    end

    local admitted = hits < 0 or count + hits <= requests
    local before = count
    if hits ~= 0 and (admitted or term.charges) then
      -- A charge is only taken back while its window is the current one.
      if term.charged > 1 and floor(term.charged / term.window) ~= at then hits = 0 end
      count = count + hits
      if count >= WHOLE_MAX then count = WHOLE_MAX - 1 end
      if count < 0 then count = 0 end
      INDEX[counter], COUNT[counter] = count > 0 and at, count
      if WRITE[counter] < 1 then WRITE[counter] = 1 end
    end
    local counted = admitted and count or before
    local remaining = counted < requests and requests - counted or 0
    if not admitted and hits > requests then return false, remaining, term.window end
    return admitted, remaining, (at + 1) * term.window - now
  end

  local function fixed_value(counter, term)
    return pack('<I6I7I7', DEADLINE[counter], INDEX[counter] or term.index, COUNT[counter])
  end

  local function fixed_expires(counter, term)
    return (INDEX[counter] + 1) * term.window
  end

  OPEN[1], STEP[1], VALUES[1], EXPIRES[1] = open_fixed, fixed, fixed_value, fixed_expires
end
