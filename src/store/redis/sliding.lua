-- `sliding_window`, as src/algorithm/sliding.rs. A part of careful.lua, whose locals it sees.

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
      -- Oldest first, each with hits, which are all that there are besides the newest.
      local age, sum = oldest + 1, 0
      for pos = 1, #behind, 5 do
        local p, c = unpick('<BI4', behind, pos)
        p = (index - p) % 256
        if p >= age or p == 0 or c == 0 then return spoilt(k) end
        age, sum = p, sum + c
      end
      if (index - byte(behind, 1)) % 256 ~= oldest or sum ~= older then return spoilt(k) end
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

  -- Gives `back` hits back to sub-window `p` alone, if it has some; says also whether pairs changed.
  local function take_from(p, back, index, count, older, oldest, pairs)
    if p == index then
      return back < count and count - back or 0, older, oldest, pairs
    end
    for pos = 1, #pairs, 5 do
      local i, c = unpick('<BI4', pairs, pos)
      if index - (index - i) % 256 == p then
        local left = c > back and pack('<BI4', i, c - back) or ''
        older = older - (c > back and back or c)
        pairs = sub(pairs, 1, pos - 1) .. left .. sub(pairs, pos + 5)
        return count, older, pairs == '' and 0 or (index - byte(pairs, 1)) % 256, pairs, true
      end
    end
    return count, older, oldest, pairs
  end

  local function sliding(k, t, hits)
    local n, part, requests, at = t.n, t.part, t.requests, t.index
    local index, count, older, oldest, pairs = A[k], B[k], C[k], D[k], E[k]
    if not index then
      index, count, older, oldest, pairs = at, 0, 0, 0, ''
    elseif index > at then
      if index >= at + n then
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
      elseif t.charged > 1 then
        local moved
        count, older, oldest, pairs, moved = take_from(floor(t.charged / part), -hits, index, count, older, oldest, pairs)
        if moved then write = 2 end
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
