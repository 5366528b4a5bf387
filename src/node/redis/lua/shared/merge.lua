-- Merging the marks of copied blocks, and what was remembered of them (Q7, Q8).

-- The message becomes a member of the claim, perhaps among others.
local function join(r, c, b, index, changed)
  c.refs, c.dirty, c.recount = c.refs .. pack(REF, b.ord, index), true, true
  changed[#changed + 1] = c
end

local function set_mark(r, b, index, m)
  marks(r, b)[index], b.marks_dirty = m, true
  touch(b)
end

-- Of two marks the higher rank wins; of the same rank the one with more time left.
local function merge_mark(r, b, index, new, left, ttl, changed)
  if not present(b, index) then return end
  local m = marks(r, b)[index]
  local c = m and holder(r, m)
  local held_left = c and c.ends - now or 0
  if m and not (below(m.rank, new.rank) or (m.rank == new.rank and left > held_left)) then
    m.times = math.max(m.times, new.times)
    return set_mark(r, b, index, m)
  end
  if m then
    leave(r, m)
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

local function recall_one(r, b, index, w, changed)
  local pos = position(b, index)
  if not pos then return end
  if w.kind == 0 then
    local _, state = record(b, pos)
    if state ~= 1 then end_message(r, b, pos) end
    return
  end
  if not present(b, index) then return end
  set_mark(r, b, index, {released = w.released, claim = w.claim, rank = w.rank, times = w.times})
  if w.released == 1 then return end
  local c = claim_of(r, w.claim) or start_claim(r, w.claim, w.rank, 0, w.ends)
  join(r, c, b, index, changed)
  outlive(r, b, pos, w.ends, w.till)
end

-- Does to a block that has come what was asked before.
local function recall(r, k, b, changed)
  if not joining(r) or call('EXISTS', r.p .. ':t') == 0 then return end
  for index = 0, 255 do
    local ref = pack('<c8I4B', k.producer, k.number, index)
    local w = pending(r, ref)
    if w then
      call('HDEL', r.p .. ':t', ref)
      if b then recall_one(r, b, index, w, changed) end
    end
  end
end
