-- What a joining replica was asked of messages is done once their blocks have come (Q7, Q8).
local function recall_one(r, b, index, w, changed)
  local pos = position(b, index)
  if not pos then return end
  if w.kind == 0 then
    local _, state = record(b, pos)
    if state ~= 1 then end_messages(r, b, pos, pos) end
    return
  end
  if not present(b, index) then return end
  set_mark(r, b, index, {released = w.released, claim = w.claim, rank = w.rank, times = w.times})
  if w.released == 1 then return end
  local c = claim_of(r, w.claim) or start_claim(r, w.claim, w.rank, 0, w.ends)
  join(r, c, b, index, changed)
  outlive(r, b, pos, pos, w.ends, w.till)
end

-- What was asked of blocks that have not come, by producer and block; in the order of indices.
local function remembered(r)
  local by = {}
  for _, ref in ipairs(joining(r) and call('HKEYS', r.p .. ':t') or {}) do
    local name = ref:sub(1, 12)
    by[name] = by[name] or {}
    table.insert(by[name], ref)
  end
  for _, refs in pairs(by) do
    table.sort(refs, function(one, other) return one:byte(13) < other:byte(13) end)
  end
  return by
end

-- Does to a block that has come what was asked before.
local function recall(r, refs, b, changed)
  for _, ref in ipairs(refs) do
    local w = pending(r, ref)
    call('HDEL', r.p .. ':t', ref)
    if b then recall_one(r, b, ref:byte(13), w, changed) end
  end
end
