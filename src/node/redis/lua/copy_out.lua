-- Purpose: a batch of blocks with their state, for copying (Q1, Q7, Q8).
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted; 2 ordinal to start from; 3 bytes at most; 4 blocks at most
-- Returns: ok, blocks, next ordinal, done (0 or 1) | stranger, held | gone | open
--   blocks: {producer, block and age; the block as stored, or empty; marks, 38 bytes each} each
-- Atomic: bytes, states and marks belong to one moment.
local refused = stranger(KEYS[1], ARGV[1])
local r = not refused and load_replica(KEYS[2])
refused = refused or (not r and {'gone'}) or not_sealed(r)
if refused then return refused end
local from, max_bytes, max_blocks = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local blocks, taken, next_ord = {}, 0, from
local marked = call('EXISTS', r.p .. ':x') == 1

-- Bytes of the block without what has ended or expired, as the client will encode it.
local function encoded_size(b)
  local size, clients = 0, {}
  for pos = 1, b.n do
    local _, state, slot, stop, ttl = record(b, pos)
    if state ~= 1 and b.age < ttl then
      size = size + 16 + stop - start_of(b, pos)
      if not clients[slot] then
        clients[slot] = true
        size = size + (slot > 0 and 1 + #client_of(b, slot) or 0)
      end
    end
  end
  return size > 0 and size + 25 or 0
end

local function marks_of(b)
  local all = {}
  for pos = 1, b.n do
    local index = record(b, pos)
    local m = present(b, index) and mark_of(r, b, index)
    if m then
      local c = holder(r, m)
      all[#all + 1] = pack('<Bc8c12I4BI8I4', index, m.claim, m.rank, m.times, c and 1 or 0,
        c and c.ends - now or 0, c and c.ttl or 0)
    end
  end
  return table.concat(all)
end

-- The blocks of index records, as stored, each with whether it has marks: two calls for all.
local function fetch(list)
  local keys, ords = {}, {}
  for at, i in ipairs(list) do keys[at], ords[at] = block_key(r, i), i.ord end
  local raws = #keys > 0 and call('MGET', spread(keys)) or {}
  local held = marked and #keys > 0 and call('HMGET', r.p .. ':x', spread(ords)) or {}
  for at, i in ipairs(list) do i.raw, i.marks = assert(raws[at], 'a block is missing'), held[at] end
end

-- Adds a block; true if there is no room for it.
local function add(i)
  local raw, held, b, size = '', '', nil, 0
  if i.raw then
    local plain = i.live == i.sent and not i.marks and math.max(0, now - i.arr) < i.minttl
    b = not plain and block_of(r, i, i.raw)
    size = b and encoded_size(b) or i.head - 16 * i.live + i.bytes
  end
  taken = taken + size
  if taken > max_bytes and #blocks > 0 then return true end
  if size > 0 then raw, held = i.raw, i.marks and marks_of(b) or '' end
  blocks[#blocks + 1] = {pack('<c8I4I8', i.producer, i.block, math.max(0, now - i.arr)), raw, held}
  next_ord = i.ord + 1
  return #blocks == max_blocks
end

-- Adds blocks that were looked up together; true if there is no room for more.
local function add_all(list)
  local live = {}
  for _, i in ipairs(list) do
    if i.live > 0 then live[#live + 1] = i end
  end
  fetch(live)
  for _, i in ipairs(list) do
    if add(i) then return true end
  end
end

local list, bytes, full = {}, 0, false
walk(r, from, function(_, i)
  if i.sent == DROPPED then return false end
  list[#list + 1], bytes = i, bytes + i.bytes
  if #list < 64 and bytes < max_bytes - taken then return false end
  full = add_all(list)
  list, bytes = {}, 0
  return full
end)
if not full then add_all(list) end

local done = 1
walk(r, next_ord, function(_, i)
  if i.sent ~= DROPPED then done = 0 end
  return done == 0
end)
return {'ok', blocks, next_ord, done}
