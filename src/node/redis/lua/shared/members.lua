-- The messages of a claim.

-- Calls visit(block, pos) for each message that the claim's marks are on and that has not ended
-- or expired, in the order of arrival.
local function members(r, c, visit)
  local at, seen = {}, {}
  for i = 1, #c.refs, REF_LEN do
    local ord, index, more = unpack(REF, c.refs, i)
    for offset = ord * 256 + index, ord * 256 + index + more do
      if not seen[offset] then
        seen[offset] = true
        at[#at + 1] = offset
      end
    end
  end
  table.sort(at)
  local ord, b
  for _, offset in ipairs(at) do
    local index = offset % 256
    if ord ~= (offset - index) / 256 then
      ord = (offset - index) / 256
      b = open_indexed(r, index_of(r, ord))
    end
    local pos = b and present(b, index)
    if pos and record_of(r, (mark_of(r, b, index))) == c then visit(b, pos) end
  end
end

-- How many there are.
local function count_members(r, c)
  local n = 0
  members(r, c, function() n = n + 1 end)
  return n
end

-- Records a claim anew or restarts it, before its messages are marked. `settle_claim` follows.
local function start_claim(r, key, rank, ttl, ends)
  local c = claim_of(r, key)
  if not c then
    c = {key = key, refs = '', n = 0, back = 0, rank = rank}
    claims[key] = c
  elseif c.rank ~= rank or c.back == 1 then
    if c.back == 0 then r.held = r.held - c.n end
    if c.rank ~= rank then put_all_back(r, c) end
    c.n, c.back, c.rank, c.recount = 0, 0, rank, true
  end
  c.ttl, c.ends, c.dirty = ttl, ends, true
  return c
end

-- Marks messages for a claim that was started, unless the claim has them; their records and their
-- indices lie side by side.
local function mark(r, b, pos, last, c, till)
  local at, stop = (record(b, pos)), (record(b, last))
  while at <= stop do
    local m, to = mark_of(r, b, at)
    to = math.min(to, stop)
    if record_of(r, m) ~= c then
      local n = to - at + 1
      if m then leave(r, m, n) end
      local member = m and m.claim == c.key and m.released == 0
      if not member then c.refs = c.refs .. pack(REF, b.ord, at, n - 1) end
      local times = (m and m.times or 0) + 1
      set_marks(r, b, at, to, {released = 0, claim = c.key, rank = c.rank, times = times})
      c.n, r.held = c.n + n, r.held + n
      touch(b)
    end
    at = to + 1
  end
  outlive(r, b, pos, last, c.ends, till)
end

-- Marks of an earlier start count again: once for a claim that came back.
local function settle_claim(r, c)
  if not c.recount then return end
  r.held = r.held - c.n
  c.n, c.recount = c.back == 0 and count_members(r, c) or 0, nil
  r.held = r.held + c.n
end
