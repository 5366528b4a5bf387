-- Changes to messages, gathered a block at a time; `save.lua` writes them at the end.
local touched = {}

local function touch(b)
  if not b.touched then
    b.touched = true
    touched[#touched + 1] = b
  end
end

-- Q8: messages whose records lie side by side end here; none has before.
local function end_messages(r, b, pos, last)
  local n = last - pos + 1
  for p = pos, last do b.st[p] = 1 end
  b.low, b.high = math.min(b.low or pos, pos), math.max(b.high or last, last)
  b.ended, r.live = b.ended + n, r.live - n
  local weight = start_of(b, last + 1) - start_of(b, pos)
  b.lost, r.weight = b.lost + 16 * n + weight, r.weight - weight
  local first, index, marked = (record(b, pos)), (record(b, last)), false
  local at = first
  while at <= index do
    local m, to = mark_of(r, b, at)
    to = math.min(to, index)
    if m then leave(r, m, to - at + 1) end
    at, marked = to + 1, marked or m
  end
  if marked then set_marks(r, b, first, index, nil) end
  touch(b)
end

-- Lets messages live to `till` that would expire before `ends`.
local function outlive(r, b, pos, last, ends, till)
  if b.arr + b.i.minttl >= ends then return end
  for p = pos, last do
    local _, _, _, _, ttl = record(b, p)
    if b.arr + ttl < ends then
      b.tt[p] = math.max(ttl, math.min(till - b.arr, 4294967295))
      r.maxexp = math.max(r.maxexp, b.arr + b.tt[p])
      touch(b)
    end
  end
end
