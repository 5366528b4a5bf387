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
