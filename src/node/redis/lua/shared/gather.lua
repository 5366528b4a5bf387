-- Finding what can be claimed at a cost of what is found (Q7). Below the cursor `P:a` orders the
-- blocks of which something may be free again, `P:w` those with delayed messages by the time at
-- which the next one is ready. What is below the cursor and in neither has ended or is held.
local taken, taken_bytes, limit, max_bytes = {}, 0, 0, 0

local function available(r, b, pos)
  local index, state, _, _, life, delay = record(b, pos)
  if state == 1 or b.age >= life or holder(r, marks(r, b)[index]) then return false end
  return true, b.age < delay and b.arr + delay
end

-- Takes what is free in a block from an index on. Returns the index at which it stopped for lack
-- of room, if it did, and when the next delayed message that it passed is ready.
local function gather(r, b, from)
  local ready
  b.taken = b.taken or {}
  for pos = b.n == b.sent and from + 1 or 1, b.n do
    local index, _, _, stop = record(b, pos)
    local free, later = false, nil
    if index >= from and not b.taken[pos] then free, later = available(r, b, pos) end
    if later then
      ready = math.min(ready or later, later)
    elseif free then
      local size = stop - start_of(b, pos)
      if #taken > 0 and taken_bytes + size > max_bytes then return index, ready end
      taken[#taken + 1], taken_bytes, b.taken[pos] = {b, pos}, taken_bytes + size, true
      if #taken == limit then return index + 1, ready end
    end
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
      if #taken == limit then return true end
      local i = index_of(r, tonumber(member))
      local stopped, ready
      if i.live > 0 then stopped, ready = gather(r, open_indexed(r, i), 0) end
      passed(r, member, ready)
      if stopped then return true end
      call('ZREM', r.p .. ':a', member)
    end
  until #members == 0
  return #taken == limit
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
    return stopped or #taken == limit
  end)
end

-- The first messages that are free, in the order of arrival: pairs of block and place.
local function gather_all(r, most, most_bytes)
  limit, max_bytes = most, most_bytes
  for _, ord in ipairs(call('ZRANGEBYSCORE', r.p .. ':w', '-inf', now)) do
    call('ZADD', r.p .. ':a', ord, ord)
    call('ZREM', r.p .. ':w', ord)
  end
  if not gather_again(r) then gather_new(r) end
  return taken
end
