-- Claims (Q7). Messages' marks stand in the hash `P:x`, one field a block (its ordinal): for each
-- run of neighbours that are marked alike 27 bytes: first index, how many more, released, claim,
-- rank (version and count, big-endian), times. Marks are shared by a run: none is changed in place.
-- The time of a claim stands once, in the hash `P:c`: rank, ttl, end, how many messages it
-- holds, put back (0 or 1), then five bytes for each member: ordinal, index. A mark is live while
-- it was not released and the record has its rank and has not ended. `P:d` orders the records by
-- their ends; an ended one is put back: what it held is made known to picks through `P:a`.
local MARK, MARK_LEN = '<BBBc8c12I4', 27
local CLAIM, CLAIM_LEN, REF, REF_LEN = '<c12I4I8I4B', 29, '<I4B', 5
local claims = {}

local function marks(r, b)
  if b.marks then return b.marks end
  if r.marked == nil then r.marked = call('EXISTS', r.p .. ':x') == 1 end
  local raw = r.marked and call('HGET', r.p .. ':x', b.ord) or ''
  b.marks = {}
  for at = 1, #raw, MARK_LEN do
    local m = {}
    local index, more
    index, more, m.released, m.claim, m.rank, m.times = unpack(MARK, raw, at)
    for i = index, index + more do b.marks[i] = m end
  end
  return b.marks
end

local function claim_of(r, key)
  local c = claims[key]
  if c ~= nil then return c end
  local raw = call('HGET', r.p .. ':c', key)
  if not raw then claims[key] = false return false end
  c = {key = key, refs = raw:sub(CLAIM_LEN + 1)}
  c.rank, c.ttl, c.ends, c.n, c.back = unpack(CLAIM, raw)
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

-- A mark is about to stand for nothing: the record holds one message less.
local function leave(r, m)
  local c = record_of(r, m)
  if c and c.back == 0 then
    c.n, c.dirty, r.held = c.n - 1, true, r.held - 1
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
      call('ZADD', r.p .. ':d', c.back == 1 and now + 600000 or c.ends, key)
      c.dirty = false
    end
  end
  for ord in pairs(r.again or {}) do call('ZADD', r.p .. ':a', ord, ord) end
  r.again = nil
end
