-- Writing what has changed: blocks by the smallest writes, or anew, or not at all any more.
-- Writes the block anew without its ended messages: their space is bounded by what is left.
local function compact(b, i)
  local raw = call('GET', b.key)
  local records, bodies, size, n = {}, {}, 0, 0
  for pos = 1, b.n do
    local index, state, slot, stop, ttl, delay = record(b, pos)
    if state ~= 1 then
      local start = start_of(b, pos)
      n, size = n + 1, size + stop - start
      records[n] = pack('<BBBBI4I4I4', index, state, slot, 0, size, ttl, delay)
      bodies[n] = raw:sub(b.at + start + 1, b.at + stop)
    end
  end
  local head = raw:sub(1, 2) .. pack('<I2', n) .. raw:sub(5, 24)
  local extras = raw:sub(24 + 16 * b.n + 1, b.at)
  call('SET', b.key, head .. table.concat(records) .. extras .. table.concat(bodies))
  i.head = 24 + 16 * n + b.ext
end

local function drop_block(r, b)
  call('UNLINK', b.key)
  call('HDEL', r.p .. ':x', b.ord)
  for _, name in ipairs({':a', ':w', ':y'}) do call('ZREM', r.p .. name, b.ord) end
  b.marks_dirty = false
  if r.again then r.again[b.ord] = nil end
end

-- Writes down what has ended: records that lie side by side at once.
local function write_states(b)
  local pos = b.low
  while pos <= b.high do
    local last = pos
    if b.st[pos] then
      while b.st[last + 1] do last = last + 1 end
      call('SETRANGE', b.key, 8 + 16 * pos, (b.head:sub(9 + 16 * pos, 24 + 16 * last)
        :gsub('(.).(..............)', '%1\1%2')))
    end
    pos = last + 1
  end
end

-- What has ended is cut out of a block when it outweighs the rest, and an eighth of what the
-- replica was given: consumers take most blocks as a whole, soon.
local function save_block(r, b)
  local i, whole = b.i, true
  if b.ended > 0 then
    local stored = b.n > 0 and 16 * b.n + start_of(b, b.n + 1) or 0
    local before = stored - i.bytes
    i.live, i.bytes = i.live - b.ended, i.bytes - b.lost
    r.waste = r.waste + b.lost
    if i.live <= 0 then
      r.waste = r.waste - before - b.lost
      i.live, i.bytes, whole = 0, 0, false
      drop_block(r, b)
    elseif stored > 256 and stored > 2 * i.bytes and r.waste > r.bytes / 8 then
      r.waste, whole = r.waste - stored + i.bytes, false
      compact(b, i)
    end
    r.waste = math.max(0, r.waste)
    i.minttl = b.minttl or i.minttl
    put_index(r, i)
  end
  if whole then
    if b.low then write_states(b) end
    for pos, ttl in pairs(b.tt) do call('SETRANGE', b.key, 16 + 16 * pos, pack('<I4', ttl)) end
  end
  if b.marks_dirty then save_marks(r, b) end
end

-- Writes everything that has changed.
local function save_all(r)
  for _, b in ipairs(touched) do save_block(r, b) end
  save_claims(r)
  save_replica(r)
end
