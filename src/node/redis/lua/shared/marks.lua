-- Writing a block's marks, as `claim.lua` reads them: neighbours that are marked alike as one.
local function alike(m, o)
  return m == o or m and m.claim == o.claim and m.rank == o.rank and m.times == o.times
    and m.released == o.released
end

local function save_marks(r, b)
  local all, from, run = {}, 0, nil
  for index = 0, b.sent do
    local m = b.marks[index]
    if run and not alike(m, run) then
      all[#all + 1] = pack(MARK, from, index - 1 - from, run.released, run.claim, run.rank,
        run.times)
      run = nil
    end
    if m and not run then from, run = index, m end
  end
  if #all > 0 then call('HSET', r.p .. ':x', b.ord, table.concat(all))
  else call('HDEL', r.p .. ':x', b.ord) end
end
