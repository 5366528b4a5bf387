-- Changes to messages, gathered a block at a time and written at the end.
local touched = {}

local function touch(b)
  if not b.touched then
    b.touched = true
    touched[#touched + 1] = b
  end
end

-- Q8: the message ends here.
local function end_message(r, b, pos)
  local index, _, _, stop = record(b, pos)
  local weight = stop - start_of(b, pos)
  b.st[pos], b.ended, b.lost = 1, b.ended + 1, b.lost + 16 + weight
  r.live, r.weight = r.live - 1, r.weight - weight
  leave(r, marks(r, b)[index])
  touch(b)
end

-- Lets a message live to `till` if it would expire before `ends`.
local function outlive(r, b, pos, ends, till)
  local _, _, _, _, ttl = record(b, pos)
  if b.arr + ttl >= ends then return end
  b.tt[pos] = math.max(ttl, math.min(till - b.arr, 4294967295))
  r.maxexp = math.max(r.maxexp, b.arr + b.tt[pos])
  touch(b)
end

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
    elseif b.marks and b.marks[index] then
      b.marks[index], b.marks_dirty = nil, true
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

local function save_block(r, b)
  local i, whole = b.i, true
  if b.ended > 0 then
    i.live, i.bytes = i.live - b.ended, i.bytes - b.lost
    local stored = b.n > 0 and 16 * b.n + start_of(b, b.n + 1) or 0
    if i.live <= 0 then
      i.live, i.bytes, whole = 0, 0, false
      drop_block(r, b)
    elseif stored > 256 and stored > 2 * i.bytes then
      whole = false
      compact(b, i)
    end
    i.minttl = b.minttl or i.minttl
    put_index(r, i)
  end
  if whole then
    for pos, state in pairs(b.st) do call('SETRANGE', b.key, 9 + 16 * pos, string.char(state)) end
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
