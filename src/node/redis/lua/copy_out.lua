-- Purpose: a batch of blocks with their state, for copying (Q1, Q7, Q8).
-- KEYS: 1 string, the cookie; 2 prefix `P` of the replica's keys
-- ARGV: 1 the cookie wanted; 2 ordinal to start from; 3 bytes at most; 4 blocks at most
-- Returns: ok, blocks, next ordinal, done (0 or 1) | stranger, held | gone | open
--   blocks: {producer, block and age; the block as stored, or empty; marks, 38 bytes each} each
-- Atomic: bytes, states and marks belong to one moment.
local refused = stranger(KEYS[1], ARGV[1])
if refused then return refused end
local r = load_replica(KEYS[2])
if not r then return {'gone'} end
local from, max_bytes, max_blocks = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
refused = not_sealed(r)
if refused then return refused end
local blocks, taken, next_ord = {}, 0, from

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
    local m = present(b, index) and marks(r, b)[index]
    if m then
      local c = holder(r, m)
      all[#all + 1] = pack('<Bc8c12I4BI8I4', index, m.claim, m.rank, m.times, c and 1 or 0,
        c and c.ends - now or 0, c and c.ttl or 0)
    end
  end
  return table.concat(all)
end

walk(r, from, function(ord, i)
  if i.sent == DROPPED then return false end
  local raw, held = '', ''
  local b = open_indexed(r, i)
  local size = b and encoded_size(b) or 0
  taken = taken + size
  if taken > max_bytes and #blocks > 0 then return true end
  if size > 0 then raw, held = call('GET', b.key), marks_of(b) end
  blocks[#blocks + 1] = {pack('<c8I4I8', i.producer, i.block, math.max(0, now - i.arr)), raw, held}
  next_ord = ord + 1
  return #blocks == max_blocks
end)

local done = 1
walk(r, next_ord, function(_, i)
  if i.sent ~= DROPPED then done = 0 end
  return done == 0
end)
return {'ok', blocks, next_ord, done}
