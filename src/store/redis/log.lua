-- `sliding_log`, as src/algorithm/log.rs. A part of careful.lua, whose locals it sees.

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

  -- Takes up to `back` hits from the entry of that time; returns how many there were.
  local function log_take_from(k, charged, back)
    for i = C[k] + D[k] - 1, C[k], -1 do
      local time, hits = entry(k, i)
      if time == charged then
        local left = hits > back and hits - back or 0
        if 11 * i < #E[k] then
          E[k] = sub(E[k], 1, 11 * i) .. (left > 0 and pack('<I7I4', time, left) or '') .. sub(E[k], 11 * i + 12)
        else
          F[k] = left
        end
        if left == 0 then D[k] = D[k] - 1 end
        -- The newest went.
        if D[k] > 0 and F[k] == 0 then A[k] = unpick('<I7', E[k], 11 * (C[k] + D[k] - 1) + 1) end
        WRITE[k] = 3
        return hits - left
      end
    end
    return 0
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
      local oldest
      while skip < C[k] + D[k] do
        local time, gone = entry(k, skip)
        if time + window > at then
          oldest = time
          break
        end
        used, skip = used - gone, skip + 1
      end
      -- A sum that isn't that of its entries, or one of them out of order: to look at all of them for every request would
      -- cost too much.
      if used < 0 or (used > 0) ~= (oldest ~= nil) or (oldest or 0) > A[k] then
        spoilt(k)
        used, skip = 0, 0
      end
    end

    local admitted = hits < 0 or used + hits <= requests
    local before = used
    if hits ~= 0 and (admitted or t.charges) then
      if not A[k] then B[k], C[k], D[k], E[k], F[k] = 0, 0, 0, '', 0 end
      if WRITE[k] < 1 then WRITE[k] = 1 end
      D[k], C[k] = D[k] - (skip - C[k]), skip
      if t.charged > 1 then
        used = used - log_take_from(k, t.charged, -hits)
      elseif hits < 0 then
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
