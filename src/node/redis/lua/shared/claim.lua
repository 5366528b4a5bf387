-- Claims (Q7). Messages' marks stand in the hash `P:x`, one field a block (its ordinal): for each
-- run of neighbours that are marked alike 27 bytes: first index, how many more, released, claim,
-- rank (version and count, big-endian), times. Marks are shared by a run: none is changed in place.
-- The time of a claim stands once, in the hash `P:c`: rank, ttl, end, how many messages it
-- holds, put back (0 or 1), then six bytes for each run of members: ordinal, first index, how many
-- more. Messages that have ended have no marks. A mark is live while it was not released and the
-- record has its rank and has not ended. `P:d` orders the records by their ends; an ended one is
-- put back: what it held is made known to picks through `P:a`.
local claims = {}

-- A block's marks: runs of first index, last index, mark. Who looks at many blocks asks first
-- whether there are any.
local function marks(r, b)
  if b.marks then return b.marks end
  local raw = r.marked ~= false and call('HGET', r.p .. ':x', b.ord) or ''
  b.marks = {}
  for at = 1, #raw, MARK_LEN do
    local m = {}
    local index, more
    index, more, m.released, m.claim, m.rank, m.times = unpack(MARK, raw, at)
    b.marks[#b.marks + 1] = {index, index + more, m}
  end
  return b.marks
end

-- A message's mark, or nil; and the last index up to which that is so.
local function mark_of(r, b, index)
  for _, run in ipairs(marks(r, b)) do
    if index < run[1] then return nil, run[1] - 1 end
    if index <= run[2] then return run[3], run[2] end
  end
  return nil, 255
end

local function claim_of(r, key)
  local c = claims[key]
  if c ~= nil then return c end
  local raw = call('HGET', r.p .. ':c', key)
  if not raw then claims[key] = false return false end
  c = {key = key, refs = raw:sub(CLAIM_LEN + 1)}
  c.rank, c.ttl, c.ends, c.n, c.back = unpack(CLAIM, raw)
  c.due = c.back == 0 and c.ends or nil
  claims[key] = c
  return c
end

-- The record that a mark agrees with, whether or not it has ended.
local function record_of(r, m)
  if not m or m.released == 1 then return nil end
  local c = claim_of(r, m.claim)
  if c and c.rank == m.rank then return c end
end

-- The live claim that a mark stands for.
local function holder(r, m)
  local c = record_of(r, m)
  if c and now < c.ends then return c end
end

-- A mark is about to leave messages: the record holds so many less.
local function leave(r, m, n)
  local c = record_of(r, m)
  if c and c.back == 0 then
    c.n, c.dirty, r.held = c.n - n, true, r.held - n
  end
end

-- A message may be had again: picks that have passed its block must be told.
local function put_back(r, ord)
  if ord * 256 < r.cursor then
    r.again = r.again or {}
    r.again[ord] = true
  end
end

-- Writes changed records, and what can be had again. A record that was put back is kept for a
-- while: a late hold of the same claim finds its members.
local function save_claims(r)
  for key, c in pairs(claims) do
    if c and c.dirty then
      call('HSET', r.p .. ':c', key, pack(CLAIM, c.rank, c.ttl, c.ends, c.n, c.back) .. c.refs)
      local due = c.back == 1 and now + 600000 or c.ends
      if due ~= c.due then call('ZADD', r.p .. ':d', due, key) end
      c.due, c.dirty = due, false
    end
  end
  for ord in pairs(r.again or {}) do call('ZADD', r.p .. ':a', ord, ord) end
  r.again = nil
end
