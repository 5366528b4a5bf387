-- Changing a block's marks, as `claim.lua` reads them: neighbours marked alike are one run.
local function alike(m, o)
  return m == o or m.claim == o.claim and m.rank == o.rank and m.times == o.times
    and m.released == o.released
end

-- Puts a mark, or none, on the messages from an index to another.
local function set_marks(r, b, first, last, m)
  local old, all = marks(r, b), {}
  local function keep(from, to, of)
    if not of or from > to then return end
    local run = all[#all]
    if run and run[2] == from - 1 and alike(run[3], of) then run[2] = to
    else all[#all + 1] = {from, to, of} end
  end
  for _, run in ipairs(old) do keep(run[1], math.min(run[2], first - 1), run[3]) end
  keep(first, last, m)
  for _, run in ipairs(old) do keep(math.max(run[1], last + 1), run[2], run[3]) end
  b.marks, b.marks_dirty = all, true
end

local function save_marks(r, b)
  local all = {}
  for at, run in ipairs(b.marks) do
    local m = run[3]
    all[at] = pack(MARK, run[1], run[2] - run[1], m.released, m.claim, m.rank, m.times)
  end
  if #all > 0 then call('HSET', r.p .. ':x', b.ord, table.concat(all))
  else call('HDEL', r.p .. ':x', b.ord) end
end

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
