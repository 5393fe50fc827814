-- `sliding_window`, as src/algorithm/sliding.rs. A part of careful.lua, whose locals it sees.
-- Columns: the index of the newest sub-window (floor(time / sub-window)), its count, the sum of the older counts, how many
-- sub-windows ago the oldest of these is (0: there are none), and the older counts as packed pairs, oldest first.
-- Value: '<I6I7I4I5BB' deadline of the key in ms, the first four columns, number of pairs; then for each pair '<BI4' its
-- index mod 256 and its count.

if USES[0] then
  local INDEX, COUNT, OLDER, OLDEST, PAIRS = A, B, C, D, E

  local function open_sliding(counter, value)
    local size = #value
    if size < 24 then return spoilt(counter) end
    local till, index, count, older, oldest, pairs = unpick('<I6I7I4I5BB', value)
    if till > DEADLINE_MAX or index >= WHOLE_MAX or oldest > 64 or oldest > index or pairs > oldest
      or size < 24 + 5 * pairs or (pairs == 0 and (older > 0 or oldest > 0)) then
      return spoilt(counter)
    end
    local behind = ''
    if pairs > 0 then
      behind = sub(value, 25, 24 + 5 * pairs)
      -- The pairs are oldest first, each with hits, and their sum is the sum of the older counts.
      local age, sum = oldest + 1, 0
      for pos = 1, #behind, 5 do
        local sub_window, own = unpick('<BI4', behind, pos)
        sub_window = (index - sub_window) % 256
        if sub_window >= age or sub_window == 0 or own == 0 then return spoilt(counter) end
        age, sum = sub_window, sum + own
      end
      if (index - byte(behind, 1)) % 256 ~= oldest or sum ~= older then return spoilt(counter) end
    end
    DEADLINE[counter], COUNT[counter] = till, count
    OLDER[counter], OLDEST[counter], PAIRS[counter] = older, oldest, behind
    INDEX[counter] = (count > 0 or older > 0) and index
  end

  -- The sub-window with which at least `need` hits have left, oldest first, of those that still count at `at`.
  local function until_left(need, at, sub_windows, index, count, oldest, pairs)
    local first = index - oldest
    if need <= 1 and first + sub_windows >= at and (oldest > 0 or count > 0) then return first end
    local last, left = index, 0
    for pos = 1, #pairs, 5 do
      local sub_window, hits = unpick('<BI4', pairs, pos)
      sub_window = index - (index - sub_window) % 256
      if sub_window + sub_windows >= at then
        last, left = sub_window, left + hits
        if left >= need then return sub_window end
      end
    end
    if count > 0 and index + sub_windows >= at then return index end
    return last
  end

  -- Gives `back` hits back to one sub-window alone, if it has some. Returns the new columns, and whether pairs changed.
  local function take_from(sub_window, back, index, count, older, oldest, pairs)
    if sub_window == index then
      return back < count and count - back or 0, older, oldest, pairs
    end
    for pos = 1, #pairs, 5 do
      local i, own = unpick('<BI4', pairs, pos)
      if index - (index - i) % 256 == sub_window then
        local left = own > back and pack('<BI4', i, own - back) or ''
        older = older - (own > back and back or own)
        pairs = sub(pairs, 1, pos - 1) .. left .. sub(pairs, pos + 5)
        return count, older, pairs == '' and 0 or (index - byte(pairs, 1)) % 256, pairs, true
      end
    end
    return count, older, oldest, pairs
  end

  local function sliding(counter, term, hits)
    local sub_windows, part, requests, at = term.sub_windows, term.part, term.requests, term.index
    local index, count = INDEX[counter], COUNT[counter]
    local older, oldest, pairs = OLDER[counter], OLDEST[counter], PAIRS[counter]
    if not index then
      index, count, older, oldest, pairs = at, 0, 0, 0, ''
    elseif index > at then
      if index >= at + sub_windows then
        local to = at
        if to < oldest then to = oldest end
        local moved = {}
        for pos = 1, #pairs, 5 do
          local sub_window, own = unpick('<BI4', pairs, pos)
          moved[#moved + 1] = pack('<BI4', (sub_window - (index - to)) % 256, own)
        end
        index, pairs = to, table.concat(moved)
        INDEX[counter], PAIRS[counter] = index, pairs
        ahead = ahead + 1
        if WRITE[counter] < 2 then WRITE[counter] = 2 end
        if index > at then at = index end
      else
        at = index
      end
    end

    local used
    if at - index + oldest <= sub_windows then
      used = older + count
    else
      used = 0
      for pos = 1, #pairs, 5 do
        local sub_window, own = unpick('<BI4', pairs, pos)
        if index - (index - sub_window) % 256 + sub_windows >= at then used = used + own end
      end
      if index + sub_windows >= at then used = used + count end
    end

    local admitted = hits < 0 or used + hits <= requests
    local before = used
    if hits ~= 0 and (admitted or term.charges) then
      local write = 1
      if at ~= index then
        write = 2
        if at - index > sub_windows then
          count, older, oldest, pairs = 0, 0, 0, ''
        else
          if at - index + oldest > sub_windows then
            local pos, size = 1, #pairs
            while pos <= size do
              local sub_window, own = unpick('<BI4', pairs, pos)
              if index - (index - sub_window) % 256 + sub_windows >= at then break end
              older, pos = older - own, pos + 5
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
      elseif term.charged > 1 then
        local moved
        local charged_in = floor(term.charged / part)
        count, older, oldest, pairs, moved = take_from(charged_in, -hits, index, count, older, oldest, pairs)
        if moved then write = 2 end
      else
        local back, pos, size, left = -hits, 1, #pairs, ''
        while pos <= size and back > 0 do
          local sub_window, own = unpick('<BI4', pairs, pos)
          pos = pos + 5
          if own > back then
            older, left, back = older - back, pack('<BI4', sub_window, own - back), 0
          else
            older, back = older - own, back - own
          end
        end
        if pos > 1 then
          pairs, write = left .. sub(pairs, pos), 2
        end
        count = back < count and count - back or 0
        oldest = pairs == '' and 0 or (index - byte(pairs, 1)) % 256
      end
      used = older + count
      INDEX[counter], COUNT[counter] = used > 0 and index, count
      OLDER[counter], OLDEST[counter], PAIRS[counter] = older, oldest, pairs
      if write > WRITE[counter] then WRITE[counter] = write end
    end

    local counted = admitted and used or before
    local remaining = counted < requests and requests - counted or 0
    local leaves
    if not admitted then
      if hits > requests then return false, remaining, term.window end
      leaves = until_left(used + hits - requests, at, sub_windows, index, count, oldest, pairs)
    elseif remaining > 0 then
      if used == 0 then return true, remaining, 0 end
      leaves = index
      if count == 0 and pairs ~= '' then leaves = index - (index - byte(pairs, -5)) % 256 end
    elseif requests == 0 then
      return true, 0, term.window
    else
      leaves = until_left(used + 1 - requests, at, sub_windows, index, count, oldest, pairs)
    end
    return admitted, remaining, (leaves + sub_windows + 1) * part - now
  end

  local function sliding_value(counter, term, whole)
    local index = INDEX[counter] or term.index
    local pairs = PAIRS[counter]
    local head = pack('<I6I7I4I5BB', DEADLINE[counter], index, COUNT[counter], OLDER[counter], OLDEST[counter], #pairs / 5)
    return whole and head .. pairs or head
  end

  local function sliding_expires(counter, term)
    local newest = INDEX[counter]
    if COUNT[counter] == 0 and PAIRS[counter] ~= '' then newest = newest - (newest - byte(PAIRS[counter], -5)) % 256 end
    return (newest + term.sub_windows + 1) * term.part
  end

  OPEN[0], STEP[0], VALUES[0], EXPIRES[0] = open_sliding, sliding, sliding_value, sliding_expires
end
