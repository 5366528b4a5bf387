-- Merging copied blocks that were there already, and the marks of all (Q7, Q8).

-- The message becomes a member of the claim, perhaps among others.
local function join(r, c, b, index, changed)
  c.refs, c.dirty, c.recount = c.refs .. pack(REF, b.ord, index, 0), true, true
  changed[#changed + 1] = c
end

local function set_mark(r, b, index, m)
  set_marks(r, b, index, index, m)
  touch(b)
end

-- Of two marks the higher rank wins; of the same rank the one with more time left.
local function merge_mark(r, b, index, new, left, ttl, changed)
  if not present(b, index) then return end
  local m = mark_of(r, b, index)
  local c = m and holder(r, m)
  local held_left = c and c.ends - now or 0
  if m and not (below(m.rank, new.rank) or (m.rank == new.rank and left > held_left)) then
    local times = math.max(m.times, new.times)
    m = {released = m.released, claim = m.claim, rank = m.rank, times = times}
    return set_mark(r, b, index, m)
  end
  if m then
    leave(r, m, 1)
    new.times = math.max(m.times, new.times)
  end
  set_mark(r, b, index, new)
  put_back(r, b.ord)
  if new.released == 1 then return end
  c = claim_of(r, new.claim)
  local ends = now + left
  if not c or below(c.rank, new.rank) or (c.rank == new.rank and c.ends < ends) then
    c = start_claim(r, new.claim, new.rank, ttl, ends)
  end
  join(r, c, b, index, changed)
end

local function merge_marks(r, b, raw, changed)
  for at = 1, #raw, 38 do
    local m, live, left, ttl, index = {}, nil, nil, nil, nil
    index, m.claim, m.rank, m.times, live, left, ttl = unpack('<Bc8c12I4BI8I4', raw, at)
    m.released = 1 - live
    merge_mark(r, b, index, m, left, ttl, changed)
  end
end

-- Merges the messages of a block that was there (Q8): ended on either side is ended.
local function merge_block(r, k, b)
  local others = {}
  for at = 1, #k.records, 5 do
    local index, ttl = unpack('<BI4', k.records, at)
    if k.age < ttl then others[index] = ttl end
  end
  for pos = 1, b.n do
    local index, state, _, _, ttl = record(b, pos)
    local other = others[index]
    if state ~= 1 and other and b.age < ttl then
      if other > ttl then
        b.tt[pos] = other
        touch(b)
      end
      r.maxexp = math.max(r.maxexp, b.arr + math.max(ttl, other))
    elseif state ~= 1 then
      end_messages(r, b, pos, pos)
    end
  end
end
