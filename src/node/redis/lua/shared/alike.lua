-- Looking at neighbours as one: for what names messages by reference.

-- Whether all messages from an index to another are there, as far as that is told quickly.
local function is_whole(b, first, last)
  if b.n ~= b.sent or last >= b.n or b.age >= b.i.minttl then return false end
  if b.ended == 0 and b.i.live == b.n then return true end
  local head, st = b.head, b.st
  for pos = first + 1, last + 1 do
    if st[pos] or head:byte(10 + 16 * pos) == 1 then return false end
  end
  return true
end

-- Calls visit(how many, place, mark) for each run of messages that are marked alike; without a
-- place for those that have ended or expired, or if there is no block.
local function each_alike(r, b, first, last, visit)
  while first <= last do
    local pos, m, to = b and present(b, first), nil, last
    if pos then
      m, to = mark_of(r, b, first)
      to = math.min(to, last)
    end
    if b and not (pos and is_whole(b, first, to)) then
      local at = first
      while at < to and not present(b, at + 1) == not pos do at = at + 1 end
      to = at
    end
    visit(to - first + 1, pos or nil, m)
    first = to + 1
  end
end
