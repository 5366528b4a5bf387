-- Finding what can be claimed at a cost of what is found (Q7). Below the cursor `P:a` orders the
-- blocks of which something may be free again, `P:w` those with delayed messages by the time at
-- which the next one is ready. What is below the cursor and in neither has ended or is held.
local taken, taken_count, taken_bytes, limit, max_bytes

-- Whether a message that no claim holds can be had; if it is delayed, when.
local function available(b, pos)
  local _, _, _, _, life, delay = record(b, pos)
  return b.age < life and b.age >= delay, b.age < life and b.age < delay and b.arr + delay
end

-- Takes what is free in a block from an index on: neighbours with neighbouring indices as one.
-- Returns the index at which it stopped for lack of room, if it did, and when the next delayed
-- message that it passed is ready.
local function gather(r, b, from)
  if b.gathered == taken then return nil end
  b.gathered = taken
  local plain = b.age < b.i.minttl and not (r.special and call('ZSCORE', r.p .. ':y', b.ord))
  local roomy = taken_bytes + b.i.bytes <= max_bytes
  local run, ready, held, held_to, before = nil, nil, nil, -1, #taken
  for pos = b.n == b.sent and from + 1 or 1, b.n do
    local index, state = b.head:byte(9 + 16 * pos, 10 + 16 * pos)
    if index >= from and state ~= 1 then
      if index > held_to then
        held, held_to = mark_of(r, b, index)
        held = holder(r, held)
      end
      local free, later = not held, nil
      if free and not plain then free, later = available(b, pos) end
      if later then ready = math.min(ready or later, later) end
      if free then
        if not roomy then
          local size = start_of(b, pos + 1) - start_of(b, pos)
          if taken_count > 0 and taken_bytes + size > max_bytes then return index, ready end
          taken_bytes = taken_bytes + size
        end
        if not run or run[3] ~= pos - 1 or run[4] ~= index - 1 then
          run = {b, pos}
          taken[#taken + 1] = run
        end
        run[3], run[4], taken_count = pos, index, taken_count + 1
        if taken_count == limit then return index + 1, ready end
      end
    end
  end
  for at = roomy and before + 1 or #taken + 1, #taken do
    taken_bytes = taken_bytes + start_of(b, taken[at][3] + 1) - start_of(b, taken[at][2])
  end
  return nil, ready
end

-- A block below the cursor is looked at again when its next message is ready.
local function passed(r, ord, ready)
  if ready then call('ZADD', r.p .. ':w', 'LT', ready, ord) end
end

-- Blocks below the cursor of which something is free again. True if there is no room for more.
local function gather_again(r)
  repeat
    local members = call('ZRANGE', r.p .. ':a', 0, 15)
    for _, member in ipairs(members) do
      if taken_count == limit then return true end
      local i = index_of(r, tonumber(member))
      local stopped, ready
      if i.live > 0 then stopped, ready = gather(r, open_indexed(r, i), 0) end
      passed(r, member, ready)
      if stopped then return true end
      call('ZREM', r.p .. ':a', member)
    end
  until #members == 0
  return taken_count == limit
end

local function gather_new(r)
  local start = math.floor(r.cursor / 256)
  walk(r, start, function(ord, i)
    local stopped, ready
    if i.live > 0 then
      stopped, ready = gather(r, open_indexed(r, i), ord == start and r.cursor % 256 or 0)
    end
    passed(r, ord, ready)
    r.cursor = stopped and ord * 256 + stopped or (ord + 1) * 256
    return stopped or taken_count == limit
  end)
end

-- The first messages that are free, in the order of arrival: block, first place, last place.
local function gather_all(r, most, most_bytes)
  limit, max_bytes, taken, taken_count, taken_bytes = most, most_bytes, {}, 0, 0
  r.special = call('EXISTS', r.p .. ':a', r.p .. ':w', r.p .. ':y') > 0
  for _, ord in ipairs(r.special and call('ZRANGEBYSCORE', r.p .. ':w', '-inf', now) or {}) do
    call('ZADD', r.p .. ':a', ord, ord)
    call('ZREM', r.p .. ':w', ord)
  end
  if not (r.special and gather_again(r)) then gather_new(r) end
  return taken
end
